"""Publishing networks on the Hugging Face Hub: weights, configuration and a model card, uploaded as a repository."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from torch import nn

from data_prepare.errors import InputError, first_line, require
from data_prepare.files import write_text
from model.network.names import check_repo_id
from model.network.weights import weights_digest, write_model

CARD_NAME: Final = "README.md"  # of a model card


class HubModel(nn.Module, ABC):
    """A network with a `config` that can be saved in a folder and published on the Hub."""

    config: Any

    @property
    def digest(self) -> str:
        """Hash of the weights, 12 hexadecimal digits."""
        return weights_digest(self)[:12]

    @property
    @abstractmethod
    def about(self) -> str:
        """What the network is, in a sentence for the model card."""

    @abstractmethod
    def usage(self, source: str) -> str:
        """Lines of Python that use the weights `source`."""

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `model.safetensors` and `config.json` to a folder, each atomically."""
        write_model(folder, self)

    def push_to_hub(
        self, repo_id: str, private: bool = False, token: str | None = None, card: str | None = None
    ) -> str:
        """Publish weights, configuration and a model card (default: `model_card`) as `repo_id`; returns its address.

        Makes the repository if there is none. `token` with write access: default, that of `hf auth login` or HF_TOKEN.
        InputError, in one line, without a token or network, or if the Hub refuses.
        """
        with TemporaryDirectory() as folder:
            save_with_card(self, folder, card or model_card(self, repo_id))
            return upload(Path(folder), repo_id, private, token)


def save_with_card(model: HubModel, folder: str | os.PathLike[str], card: str) -> None:
    """Write what a repository of the Hub holds: model.safetensors, config.json, README.md."""
    model.save_pretrained(folder)
    write_text(Path(folder) / CARD_NAME, card)


def model_card(
    model: HubModel, title: str, sections: Mapping[str, str] | None = None, license_name: str | None = None
) -> str:
    """Model card (Markdown) of a network: what it is, how to use it, its sizes, then the given sections.

    `title` is the id of the repository; `license_name` one of the Hub's, such as mit.
    """
    header = ["library_name: seqdance", "tags: [biology, protein, protein-dynamics]"]
    header += [f"license: {license_name}"] if license_name else []
    numbers = {"parameters": f"{sum(value.numel() for value in model.parameters()):,}"}
    numbers |= {"digest of the weights": model.digest}
    parts = {
        "Use": f"`pip install seqdance`, then\n\n```python\n{model.usage(title)}\n```",
        "Network": markdown_table(numbers | asdict(model.config)),
        **(sections or {}),
    }
    text = "".join(f"\n## {name}\n\n{content.strip()}\n" for name, content in parts.items())
    return "\n".join(["---", *header, "---", "", f"# {title.rpartition('/')[2]}", "", model.about, text])


def markdown_table(rows: Mapping[str, Any], columns: tuple[str, ...] = ("", "")) -> str:
    """Table of names and values, or of names and lists of values; None and NaN are dashes."""

    def cell(value: Any) -> str:
        if value is None or value != value:
            return "-"
        return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")

    lines = [[name, *(value if isinstance(value, list) else [value])] for name, value in rows.items()]
    shown = [[*columns], ["---"] * len(columns), *([cell(value) for value in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in shown)


def upload(folder: Path, repo_id: str, private: bool = False, token: str | None = None) -> str:
    """Upload the files of a folder to a repository of the Hub, made if there is none; returns its address.

    InputError, in one line, without a token or network, or if the Hub refuses.
    """
    import huggingface_hub

    check_repo_id(repo_id)
    token = token or huggingface_hub.get_token()
    require(token, f"{repo_id}: no token of the Hub; run `hf auth login`, or set HF_TOKEN to a token with write access")
    api = huggingface_hub.HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Weights, configuration, model card")
    except Exception as error:  # the client passes on the errors of several network libraries
        remedy = "check network, owner and token (write access), then run the same again"
        raise InputError(f"{repo_id}: the Hub cannot be written ({first_line(error)}); {remedy}") from None
    return f"{api.endpoint}/{repo_id}"
