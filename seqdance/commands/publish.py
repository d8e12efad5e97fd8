"""Command `seqdance publish`: weights of a training run on the Hugging Face Hub, with a model card."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from model.network.names import check_repo_id
from seqdance.options import CommandOptions


@dataclass(frozen=True, kw_only=True)
class PublishOptions(CommandOptions):
    """Publish SeqDance, ESMDance or a Dyna-1 classifier of your own on the Hugging Face Hub.

    Uploads model.safetensors, config.json and a model card made from the run: options, digests of the data, losses and
    test metrics, without paths of this machine. Log in first with `hf auth login`, or set HF_TOKEN. Others then use
    `--model owner/name` (of Dyna-1: `--weights owner/name`).
    """

    weights: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a training run, one of its checkpoints, or a folder with model.safetensors and config.json."""
    repo_id: str
    """Repository of the Hub, owner/name; made if there is none."""
    metrics: Path | None = None
    """Test metrics for the card: a file of seqdance evaluate or dyna1 evaluate. Default: of evaluate --run-folder."""
    license: str | None = None
    """License of the weights, by the Hub's names, such as mit or cc-by-4.0. Default: none is stated."""
    private: bool = False
    """Make a private repository."""
    output: Path | None = None
    """Write the files to this folder instead, to read or edit the card; `hf upload` publishes them."""

    def __post_init__(self) -> None:
        check_repo_id(self.repo_id)


def publish(options: PublishOptions) -> list[object]:
    """Upload or write the files; returns their place."""
    from model.dyna1.classifier import is_dyna1, load_dyna1
    from model.evaluation.model_card import run_and_weights, run_sections
    from model.network.dance import load_model
    from model.network.hub import CARD_NAME, HubModel, model_card, save_with_card

    run_folder, folder = run_and_weights(options.weights)
    model: HubModel = load_dyna1(folder, "cpu") if is_dyna1(folder) else load_model(folder, "cpu")
    sections = run_sections(run_folder, folder, options.metrics) if run_folder else {}
    card = model_card(model, options.repo_id, sections, options.license)
    if options.output is not None:
        save_with_card(model, options.output, card)
        return [options.output / CARD_NAME]
    return [model.push_to_hub(options.repo_id, options.private, card=card)]


main = partial(run, PublishOptions, publish)
