"""Losses and gradient norms of SeqDance between two log lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from data_prepare.errors import require
from data_prepare.properties import properties_of_group
from model.training.data import Batch
from model.training.processes import Process
from model.training.run_log import GRADIENT_NORM


class LossRecord:
    """Sums since the last log line, kept on the device until the next one.

    With `skip_infinite` (fp16) an infinite loss is no error and not in the means: the gradient scaler skips it.
    """

    def __init__(self, process: Process, groups: Sequence[str], skip_infinite: bool = False) -> None:
        self.process, self.groups, self.skip_infinite = process, groups, skip_infinite
        self.tokens = self.pairs = 0  # of this process: sums of the lengths of proteins and of their squares
        self._unchecked: list[tuple[Tensor, str, tuple[str, ...]]] = []  # loss, group, names of each backward pass
        self._clear()

    def _clear(self) -> None:
        device = self.process.device
        self.sums = {group: torch.zeros(len(properties_of_group(group)) + 1, device=device) for group in self.groups}
        # updates with a protein that has the property
        self.passes = {group: torch.zeros_like(total) for group, total in self.sums.items()}
        self.norms = torch.zeros(2, device=device)  # sum and number of finite gradient norms

    def add(self, batch: Batch, losses: Mapping[str, Tensor], counts: Tensor, accumulation: int) -> None:
        """Add the losses of one of `accumulation` passes of a group in an update, whose `counts` they are divided by.

        See `dance_loss`.
        """
        names = (*properties_of_group(batch.group), "loss")
        values = torch.stack([losses[name].detach() for name in names])
        passes = torch.nn.functional.pad((counts > 0).float(), (0, 1), value=1.0) / accumulation
        if self.skip_infinite:
            finite = ~values[-1].isinf()
            values, passes = values.where(finite, 0.0), passes.where(finite, 0.0)
        self.sums[batch.group] += values
        self.passes[batch.group] += passes
        self._unchecked.append((losses["loss"].detach(), batch.group, batch.names))

    def add_norm(self, norm: Tensor) -> None:
        """Add the gradient norm of an update, unless it is not finite (fp16 skips that update)."""
        finite = norm.isfinite()
        self.norms += torch.stack([torch.where(finite, norm, 0.0), finite.to(norm.dtype)])

    def check(self) -> None:
        """Raise InputError that names the first batch since the last check whose loss is not finite, if any."""
        if not self._unchecked:  # on all ranks: they check together
            return
        losses = torch.stack([loss for loss, _, _ in self._unchecked])
        finite = (~losses.isnan() if self.skip_infinite else losses.isfinite()).tolist()
        bad = [(number, *self._unchecked[number][1:]) for number, fine in enumerate(finite) if not fine]
        self._unchecked.clear()
        first_of_ranks = [found for own in self.process.gather(bad[:1]) for found in own]
        if first_of_ranks:
            _, group, names = min(first_of_ranks)
            remedy = "check their features, lower --learning-rate or use --precision bf16 or fp32"
            message = f"the loss of a batch of {group} is not finite; its entries are {', '.join(names)}: {remedy}"
            self.process.first(lambda: require(False, message))

    def means(self) -> dict[str, float | None]:
        """Means since the last call: `<group>_<property>` and `<group>_loss` over ranks and the updates with the
        property, gradient norm over updates with a finite one; None without any.
        """
        found = torch.cat([*self.sums.values(), *self.passes.values(), self.norms]).cpu()
        if self.process.processes > 1:
            dist.all_reduce(found)
        names = [f"{group}_{name}" for group in self.groups for name in (*properties_of_group(group), "loss")]
        sums, passes, (total, number) = found.split([len(names), len(names), 2])
        values, total, number = (sums / passes).tolist(), total.item(), number.item()
        self._clear()
        means = {name: value if seen else None for name, value, seen in zip(names, values, passes, strict=True)}
        return means | {GRADIENT_NORM: total / number if number else None}

    def state(self) -> dict[str, Any]:
        """State for a checkpoint."""
        sums, passes = ({group: v.cpu() for group, v in found.items()} for found in (self.sums, self.passes))
        return {"sums": sums, "passes": passes, "norms": self.norms.cpu()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        device = self.process.device
        for own, found in ((self.sums, state["sums"]), (self.passes, state["passes"])):  # a changed table has others
            own.update({group: found[group].to(device) for group in self.groups if group in found})
        self.norms = state["norms"].to(device)
