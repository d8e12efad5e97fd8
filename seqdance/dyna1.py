"""Command `seqdance dyna1`: labels, embeddings, training, evaluation and prediction of Dyna-1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from seqdance.cli import Commands, dispatch

COMMANDS: Final[Commands] = {
    "predict": ("model.dyna1.predict", "probability of exchange of each residue of a sequence or structure"),
    "labels": ("data_prepare.nmr.make_labels", "NMR depositions, RefDB or RelaxDB -> label tables and splits"),
    "embed": ("model.dyna1.cache", "embeddings of a frozen model, kept for training and prediction"),
    "train": ("model.dyna1.train", "train a classifier (with several processes: torchrun)"),
    "evaluate": ("model.dyna1.evaluate", "metrics per protein on RelaxDB, CPMG or a table, beside naive baselines"),
}


def main(args: Sequence[str]) -> None:
    """Entry point of the command."""
    dispatch("seqdance dyna1", COMMANDS, args)
