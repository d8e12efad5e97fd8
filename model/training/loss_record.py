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
    """Sums since the last log line, kept on the device until the next one."""

    def __init__(self, process: Process, groups: Sequence[str]) -> None:
        self.process, self.groups = process, groups
        self.tokens = 0  # of this process
        self._unchecked: list[tuple[Tensor, str, tuple[str, ...]]] = []  # loss, group, names of each backward pass
        self._clear()

    def _clear(self) -> None:
        device = self.process.device
        self.sums = {group: torch.zeros(len(properties_of_group(group)) + 1, device=device) for group in self.groups}
        # backward passes with a protein that has the property
        self.passes = {group: torch.zeros_like(total) for group, total in self.sums.items()}
        self.norms = torch.zeros(2, device=device)  # sum and number of finite gradient norms

    def add(self, batch: Batch, losses: Mapping[str, Tensor], counts: Tensor) -> None:
        """Add the losses of one backward pass; for `counts` see `dance_loss`, here of all ranks."""
        names = (*properties_of_group(batch.group), "loss")
        self.sums[batch.group] += torch.stack([losses[name].detach() for name in names])
        self.passes[batch.group] += torch.nn.functional.pad((counts > 0).float(), (0, 1), value=1.0)
        self._unchecked.append((losses["loss"].detach(), batch.group, batch.names))

    def add_norm(self, norm: Tensor) -> None:
        """Add the gradient norm of an update, unless it is not finite (fp16 skips that update)."""
        finite = norm.isfinite()
        self.norms += torch.stack([torch.where(finite, norm, 0.0), finite.to(norm.dtype)])

    def check(self) -> None:
        """Raise InputError that names the first batch since the last check whose loss is not finite, if any."""
        if not self._unchecked:  # on all ranks: they check together
            return
        finite = torch.stack([loss for loss, _, _ in self._unchecked]).isfinite().tolist()
        bad = [(number, *self._unchecked[number][1:]) for number, fine in enumerate(finite) if not fine]
        self._unchecked.clear()
        first_of_ranks = [found for own in self.process.gather(bad[:1]) for found in own]
        if first_of_ranks:
            _, group, names = min(first_of_ranks)
            remedy = "check their features, lower --learning-rate or use --precision bf16 or fp32"
            message = f"the loss of a batch of {group} is not finite; its entries are {', '.join(names)}: {remedy}"
            self.process.first(lambda: require(False, message))

    def means(self) -> dict[str, float | None]:
        """Means since the last call: `<group>_<property>` and `<group>_loss` over ranks and the backward passes with
        the property, gradient norm over updates with a finite one; None without any.
        """
        sums = torch.cat([*(self.sums[group] for group in self.groups), self.norms]).cpu()
        if self.process.processes > 1:
            dist.all_reduce(sums)
        names = [f"{group}_{name}" for group in self.groups for name in (*properties_of_group(group), "loss")]
        passes = torch.cat([self.passes[group] for group in self.groups]).cpu()  # equal on all ranks
        values = (sums[:-2] / passes / self.process.processes).tolist()
        total, number = sums[-2:].tolist()
        self._clear()
        means = {name: value if seen else None for name, value, seen in zip(names, values, passes, strict=True)}
        return means | {GRADIENT_NORM: total / number if number else None}

    def state(self) -> dict[str, Any]:
        """State for a checkpoint."""
        sums, passes = ({group: v.cpu() for group, v in found.items()} for found in (self.sums, self.passes))
        return {"sums": sums, "passes": passes, "norms": self.norms.cpu()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; that of former checkpoints has one number of passes for all properties."""
        device = self.process.device
        self.sums = {group: state["sums"][group].to(device) for group in self.groups}
        if "backwards" in state:
            passes = state["backwards"] / len(self.groups)
            self.passes = {group: torch.full_like(total, passes) for group, total in self.sums.items()}
        else:
            self.passes = {group: state["passes"][group].to(device) for group in self.groups}
        self.norms = state["norms"].to(self.process.device)
