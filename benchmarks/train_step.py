"""A whole training step, and inference of residue properties, against the plain form of the same network.

    python benchmarks/train_step.py [--length 256] [--batch 2] [--inference-length 1024] [--threads 2] [--repeats 5]

A step: forward pass with dropout, loss of an MD group, backward pass, AdamW. Inference: residue properties only,
against the plain form, which has no way round the pair outputs. Plain: `tests/oracles/plain_dance.py`, which keeps all
attention maps and builds every large tensor. Runs of both take turns. Memory: growth of the peak resident memory
(VmHWM) of a child process over what is resident with the libraries loaded, so weights, gradients and AdamW's state
count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from measure import Timing, compare, in_child, line, peak_growth, plain_form
from torch import Tensor

from data_prepare.properties import GROUPS, NMA_GROUPS, properties_of_group
from model.config import PRESETS, TRAIN_PRESETS
from model.network.dance import DanceModel
from model.network.device import autocast
from model.network.tokenizer import tokenize
from model.training.loss import dance_loss


@dataclass(frozen=True)
class Arguments(Timing):
    """What to measure."""

    preset: Literal["seqdance", "esmdance", "demo"] = "seqdance"
    """Network; weights are random."""
    length: int = 256
    """Tokens of the training step."""
    batch: int = 2
    """Proteins of the training step."""
    inference_length: int = 1024
    """Tokens of the one protein of the inference; the plain form needs about 9 kB per pair of them."""


class Training:
    """A network, random proteins and random targets of some groups; both forms of a step on them."""

    def __init__(
        self, preset: str, length: int, batch: int, groups: Sequence[str] = GROUPS[:1], device: str = "cpu"
    ) -> None:
        torch.manual_seed(0)
        self.config, self.groups, self.device = PRESETS[preset], groups, torch.device(device)
        self.model = DanceModel(self.config).to(device)
        trained = [value for value in self.model.parameters() if value.requires_grad]
        settings = TRAIN_PRESETS[preset]
        self.optimizer = torch.optim.AdamW(
            trained, settings.learning_rate, settings.betas, settings.eps, settings.weight_decay
        )
        self.batch = {name: value.to(device) for name, value in random_proteins(batch, length).items()}
        columns = {group: (3, 3) if group in NMA_GROUPS else (47, 10) for group in groups}
        self.targets = {
            group: (
                torch.rand(batch, length, residue, device=device),
                torch.rand(batch, length, length, pair, device=device),
            )
            for group, (residue, pair) in columns.items()
        }
        self.plain_dance = plain_form().plain_dance

    def plain(self) -> dict[str, Tensor]:
        """Outputs of the plain form in training."""
        return self.plain_dance(
            dict(self.model.named_parameters()),
            self.config.heads,
            **self.batch,
            encoder_dropout=self.config.encoder_dropout,
            head_dropout=self.config.head_dropout,
            frozen=self.config.freeze_encoder,
        )

    def ours(self) -> dict[str, Tensor]:
        """Outputs of the model in training."""
        return self.model(**self.batch)

    def step(self, forward: Callable[[], dict[str, Tensor]], bf16: bool = False) -> None:
        """Forward pass, loss, backward pass for each group, then the update."""
        for group in self.groups:
            with autocast(self.device, "bf16" if bf16 else "fp32"):
                outputs = forward()
            weights = dict.fromkeys(properties_of_group(group), 1.0)
            dance_loss(outputs, *self.targets[group], group, weights)["loss"].backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def random_proteins(batch: int, length: int) -> dict[str, Tensor]:
    """Token ids and mask, each (batch, length)."""
    letters = "ACDEFGHIKLMNPQRSTVWY"
    return tokenize(["".join(letters[k] for k in torch.randint(20, (length - 2,))) for _ in range(batch)])


def inference(arguments: Arguments) -> tuple[Callable[[], object], Callable[[], object]]:
    """Ours and plain, for one protein."""
    model = DanceModel(PRESETS[arguments.preset]).eval()
    batch, plain_dance = random_proteins(1, arguments.inference_length), plain_form().plain_dance

    @torch.no_grad()
    def ours() -> object:
        return model(**batch, pair=False)

    @torch.no_grad()
    def plain() -> object:
        return plain_dance(dict(model.named_parameters()), model.config.heads, **batch)

    return ours, plain


def peak(arguments: Arguments, form: str) -> float:
    """Megabytes of two steps of one form, the network included."""
    small = Training("demo", 16, 1)  # libraries take their buffers
    small.step(getattr(small, form))

    def steps() -> None:
        training = Training(arguments.preset, arguments.length, arguments.batch)
        for _ in range(2):  # the second one with AdamW's state in place
            training.step(getattr(training, form))

    return peak_growth(steps)


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.set_num_threads(arguments.threads)
    training = Training(arguments.preset, arguments.length, arguments.batch)
    what = f"training step, L = {arguments.length}, batch {arguments.batch}"
    result = compare(lambda: training.step(training.ours), lambda: training.step(training.plain), arguments)
    print(line(what, *result, "s"), flush=True)
    ours_mb, plain_mb = (in_child(peak, arguments, form) for form in ("ours", "plain"))
    print(line("its peak memory", ours_mb, plain_mb, plain_mb / ours_mb, "MB"), flush=True)
    result = compare(*inference(arguments), arguments)
    print(line(f"residue properties only, L = {arguments.inference_length}", *result, "s"))


if __name__ == "__main__":
    main()
