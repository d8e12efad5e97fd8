"""Weight files: found in folders or on the Hub, read without running code, checked name by name, written whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from data_prepare.errors import InputError, first_line, reading, require
from data_prepare.files import whole_file, write_text

WEIGHTS_NAME: Final = "model.safetensors"
CONFIG_NAME: Final = "config.json"
TORCH_SUFFIXES: Final = (".pt", ".pth", ".bin")
NESTED: Final = "model_state_dict"  # where the published training of Dyna-1 keeps the weights in its checkpoints
HUB_ID: Final = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?")

# entries of published SeqDance and ESMDance files that the network does not use
UNUSED_ENTRIES: Final = re.compile(
    r"esm2\.pooler\..*|esm2\.contact_head\..*|esm2\.embeddings\.position_embeddings\.weight"
    r"|esm2\.embeddings\.position_ids|.*\.inv_freq"
)
# the same for the encoder alone, named without a prefix: heads of ESM2, or of SeqDance and ESMDance
UNUSED_ESM2_ENTRIES: Final = re.compile(
    r"lm_head\..*|pooler\..*|contact_head\..*|embeddings\.position_embeddings\.weight|embeddings\.position_ids"
    r"|.*\.inv_freq|(res_pred_nn|res_transform_nn|pair_middle_linear|pair_pred_linear)\..*"
)
# some releases of transformers write the LayerNorms of ESM2 under the names of TensorFlow
OLD_ESM2_NAMES: Final = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def find_weights(path_or_hub_id: str | os.PathLike[str], names: Sequence[str]) -> tuple[Path, Path | None]:
    """Weight file, and config.json beside it if there is one.

    `path_or_hub_id` is a folder, a weight file, or a Hub repository as `owner/name` or `owner/name/file`. In a folder
    or repository the first of `names` that exists is used. Raises InputError if there is none.
    """
    path, text = Path(path_or_hub_id), str(path_or_hub_id)
    if path.is_dir():
        weights = next((path / name for name in names if (path / name).is_file()), None)
        if weights is None:
            raise InputError(f"{path}: no {' or '.join(names)} in this folder; give the path of the weight file")
    elif path.is_file():
        weights = path
    else:
        local = path.parent != Path(".") and path.parent.is_dir()  # runs/best: not the id of a repository
        hub_id = None if local else HUB_ID.fullmatch(text)
        if hub_id is None:
            raise InputError(f"{text}: no such file or folder, and not a Hub id of the form owner/name")
        weights = _download(hub_id[1], [hub_id[2]] if hub_id[2] else names)
    config = weights.parent / CONFIG_NAME
    return weights, config if config.is_file() else None


def _download(hub_id: str, names: Sequence[str]) -> Path:
    """The first of these files that a Hub repository has, with its config.json beside it."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    def get(name: str) -> Path | None:
        try:
            return Path(huggingface_hub.hf_hub_download(hub_id, name))
        except LocalEntryNotFoundError:  # no network, which says nothing about the file
            raise
        except EntryNotFoundError:
            return None

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # each attempt without a network would print two lines
    try:
        get(CONFIG_NAME)
        found = next((path for path in map(get, names) if path is not None), None)
    except Exception as error:  # the client lets the errors of several network libraries through
        raise InputError(
            f"{hub_id}: no such file or folder here, and the download from the Hub failed ({first_line(error)}); "
            "download it on a machine with network access and give its path"
        ) from None
    finally:
        logging.set_verbosity(verbosity)
    if found is None:
        raise InputError(f"{hub_id}: this Hub repository has no {' or '.join(names)}; name another one")
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file or a PyTorch state dict (.pt, .pth, .bin), at its top or in
    `model_state_dict`; InputError if the file is damaged or holds anything else.

    Only tensors are unpickled. PyTorch files are mapped into memory: one of Dyna-1 may hold a language model of 6 GB.
    """
    from safetensors.torch import load_file

    known = (".safetensors", *TORCH_SUFFIXES)
    require(path.suffix in known, f"{path}: not a weight file; its name must end in {', '.join(known)}")
    with reading(path, "a weight file"):
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        state = state[NESTED] if isinstance(state, Mapping) and NESTED in state else state
        if not isinstance(state, Mapping) or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
        ):
            raise InputError(f"{path}: not a plain state dict (name -> tensor); give the weights alone")
        return dict(state)


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file that holds one object, such as a configuration."""
    with reading(path, "a JSON configuration"):
        values = json.loads(path.read_text())
    require(isinstance(values, dict), f"{path}: not a configuration; copy or download it again")
    return values


def write_model(folder: str | os.PathLike[str], module: nn.Module, config: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `config.json` into a folder; each file appears complete or not at all."""
    from safetensors.torch import save

    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with whole_file(Path(folder) / WEIGHTS_NAME) as temporary:
        temporary.write_bytes(save(weights, metadata={"format": "pt"}))  # `save_file` hides it from other users
    write_text(Path(folder) / CONFIG_NAME, json.dumps(config, indent=2) + "\n")


def check_entries(module: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Raise InputError unless names and shapes are exactly those of the module."""
    own = module.state_dict()
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "of another shape": shapes,
    }
    found = [f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    require(not found, f"{source} do not fit the model; {'; '.join(found)}; use weights of the same configuration")


def read_esm2(path_or_hub_id: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of ESM2, or of the encoder of SeqDance or ESMDance, and the content of config.json (empty without one).

    Parameters
    ----------
    path_or_hub_id
        A folder written by Hugging Face `EsmModel` or `EsmForMaskedLM` (one weight file, or several with an index) or
        by `DanceModel.save_pretrained`, a weight file of either kind, or a Hub id such as
        `facebook/esm2_t12_35M_UR50D` or `ChaoHou/ESMDance`.

    Returns
    -------
    Name -> tensor, names of the encoder without prefix (`esm.`, `esm2.`), those of heads as they are; configuration.
    """
    names = (WEIGHTS_NAME, "pytorch_model.bin")
    indices = (Path(path_or_hub_id) / f"{name}.index.json" for name in names)
    if index := next((path for path in indices if path.is_file()), None):
        with reading(index, "an index of weight files"):
            files = {index.parent / Path(name).name for name in read_json(index)["weight_map"].values()}
        if absent := [str(path) for path in sorted(files) if not path.is_file()]:
            raise InputError(f"{index} names files that are not here: {', '.join(absent)}; download them too")
        config: Path | None = index.parent / CONFIG_NAME
    else:
        weights, config = find_weights(path_or_hub_id, names)
        files = {weights}
    state = {}
    for path in sorted(files):
        for name, value in read_weights(path).items():
            name = name.removeprefix("esm2.").removeprefix("esm.")
            for old, new in OLD_ESM2_NAMES.items():
                name = name.replace(old, new)
            state[name] = value
    return state, read_json(config) if config and config.is_file() else {}


def weights_digest(module: nn.Module, *more: object) -> str:
    """Hash of the weights of a network and of `more`, what else its numbers depend on: 32 hexadecimal digits."""
    digest = hashlib.sha256(repr((type(module).__name__, more)).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
