"""The pair head alone against its plain form: time of forward and backward pass, peak memory.

    python benchmarks/pair_head.py [--lengths 256 512 1024] [--threads 2] [--repeats 5]

Inputs of both: the halves q and k of the transformed residue embeddings, (1, L, hidden), and the attention maps as the
encoder hands them out, (1, heads, L, L) per layer. Plain: `tests/oracles/plain_dance.py`, with the (L, L, 2 hidden)
input of the middle layer, the stack of all maps and its concatenation with the middle layer. Gradients of everything,
maps included. Runs of both take turns. Memory: growth of the peak resident memory (VmHWM) of a child process of its
own over what is resident with the inputs made and the libraries warm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from measure import Timing, compare, in_child, line, peak_growth, plain_form
from torch import Tensor

from model.config import ModelConfig
from model.network.dance import DanceModel
from model.network.pair_head import attention_logits, attention_weight, pair_logits


@dataclass(frozen=True)
class Arguments(Timing):
    """What to measure."""

    lengths: tuple[int, ...] = (512,)
    """Residues."""
    hidden: int = 480
    """Width of the embeddings."""
    layers: int = 12
    """Layers of the encoder."""
    heads: int = 20
    """Attention heads per layer."""


class Case:
    """Inputs of one length, and the two forms on them."""

    def __init__(self, arguments: Arguments, length: int) -> None:
        torch.manual_seed(0)
        config = ModelConfig(hidden=arguments.hidden, layers=arguments.layers, heads=arguments.heads)
        model = DanceModel(config)
        self.middle, self.pred = model.pair_middle_linear, model.pair_pred_linear
        self.q, self.k = (x.requires_grad_() for x in torch.randn(2, 1, length, config.hidden).unbind(0))
        shape = (1, config.heads, length, length)
        self.maps = [torch.rand(shape).softmax(-1).requires_grad_() for _ in range(config.layers)]
        self.upstream = torch.randn(1, length, length, 13)
        self.leaves = [self.q, self.k, *self.maps, *self.middle.parameters(), *self.pred.parameters()]
        self.plain_pair_head = plain_form().plain_pair_head

    def ours(self) -> Tensor:
        """(1, L, L, 13)."""
        logits = pair_logits(self.q, self.k, self.middle, self.pred)  # (1, 13, L, L)
        attention: Tensor | float = 0.0
        for layer, maps in enumerate(self.maps):
            attention = attention + attention_logits(maps, attention_weight(self.pred, layer, maps.shape[1]))
        return (logits + attention).permute(0, 2, 3, 1)

    def plain(self) -> Tensor:
        """(1, L, L, 13)."""
        maps = torch.cat(self.maps, dim=1).permute(0, 2, 3, 1)  # (1, L, L, layers * heads)
        linears = ((linear.weight, linear.bias) for linear in (self.middle, self.pred))
        return self.plain_pair_head(self.q, self.k, maps, *linears)

    def form(self, name: str, backward: bool) -> Callable[[], object]:
        """`ours` or `plain`, with the backward pass or without gradients."""
        forward = {"ours": self.ours, "plain": self.plain}[name]

        def run() -> object:
            with torch.set_grad_enabled(backward):
                logits = forward()
            return torch.autograd.grad(logits, self.leaves, self.upstream) if backward else logits

        return run


def peak(arguments: Arguments, length: int, form: str, backward: bool) -> float:
    """Megabytes of one form."""
    Case(arguments, 32).form(form, backward)()  # libraries take their buffers
    return peak_growth(Case(arguments, length).form(form, backward))


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.set_num_threads(arguments.threads)
    for length in arguments.lengths:
        case = Case(arguments, length)
        with torch.no_grad():
            difference = (case.ours() - case.plain()).abs().max().item()
        print(f"L = {length}, {arguments.threads} threads; largest difference of the logits {difference:.1e}")
        passes = ((False, "forward"), (True, "forward and backward"))
        for backward, what in passes:
            result = compare(case.form("ours", backward), case.form("plain", backward), arguments)
            print(line(what, *result, "s"), flush=True)
        for backward, what in passes:
            ours, plain = (in_child(peak, arguments, length, name, backward) for name in ("ours", "plain"))
            print(line(f"extra memory, {what}", ours, plain, plain / ours, "MB"), flush=True)


if __name__ == "__main__":
    main()
