"""Peak memory and time of a Dyna-1 prediction against the published call, which keeps what a backward pass would need.

    python benchmarks/dyna1.py [--lengths 300 700 1500] [--threads 2] [--repeats 3]

One protein through the classifier at the published sizes (random weights), and through ESM2-150M for the ESM-2 form.
Memory: growth of the peak resident memory (VmHWM) of a child process of its own over what is resident with the weights
loaded and the libraries warm; the weights come on top and are printed. Runs of both take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from measure import Timing, compare, in_child, line, peak_growth
from torch import nn

from model.config import ModelConfig
from model.dyna1.classifier import PRESETS, Classifier
from model.network.encoder import Esm2Encoder

ESM2_150M = ModelConfig(hidden=640, layers=30, heads=20, feed_forward=2560, encoder_dropout=0.0)
Part = Literal["esm3", "esm2", "onehot", "seqdance", "encoder"]
NAMES: dict[Part, str] = {
    "esm3": "classifier on ESM-3",
    "esm2": "classifier on ESM-2",
    "onehot": "classifier on letters",
    "seqdance": "classifier on SeqDance",
    "encoder": "ESM2-150M",
}
FORMS = ("ours", "plain")


@dataclass(frozen=True)
class Arguments(Timing):
    """What to measure."""

    lengths: tuple[int, ...] = (300, 700, 1500)
    """Residues."""
    parts: tuple[Part, ...] = ("esm3", "esm2", "encoder")
    """Classifiers by the embeddings that they read, or the language model of the ESM-2 form."""
    repeats: int = 3
    """Runs of each; medians count."""


class Case:
    """A network and the two ways to call it."""

    def __init__(self, part: Part) -> None:
        torch.manual_seed(0)
        self.part = part
        self.model: nn.Module = Esm2Encoder(ESM2_150M) if part == "encoder" else Classifier(PRESETS[part])
        self.model.eval()

    def form(self, name: str, length: int) -> Callable[[], object]:
        """One of FORMS for a protein of this length."""
        if self.part == "encoder":
            inputs = (torch.randint(4, 24, (1, length)), torch.ones(1, length, dtype=torch.bool))
        else:
            inputs = (torch.randn(1, length, PRESETS[self.part].width), torch.zeros(1, length, dtype=torch.bool))

        def run() -> object:
            with torch.inference_mode(name == "ours"):
                return self.model(*inputs)

        return run

    def megabytes(self) -> float:
        """Size of the weights."""
        return sum(value.numel() * value.element_size() for value in self.model.parameters()) / 2**20


def peak(part: Part, form: str, length: int) -> float:
    """Megabytes of one form."""
    case = Case(part)
    case.form(form, 8)()  # libraries take their buffers
    return peak_growth(case.form(form, length))


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.set_num_threads(arguments.threads)
    for part in arguments.parts:
        case = Case(part)
        print(f"{NAMES[part]}: weights {case.megabytes():.0f} MB, {arguments.threads} threads")
        for length in arguments.lengths:
            once = compare(case.form("ours", length), case.form("plain", length), arguments)
            print(line(f"time, L = {length}", *once, "s"), flush=True)
            ours, plain = (in_child(peak, part, form, length) for form in FORMS)
            print(line(f"extra memory, L = {length}", ours, plain, plain / ours, "MB"), flush=True)


if __name__ == "__main__":
    main()
