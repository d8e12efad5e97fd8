"""The training loss: per property the mean over proteins of sqrt(MSE over valid positions), weighted and summed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from data_prepare.properties import (
    MISSING,
    RESIDUE_COLUMNS,
    entry_pair_channel,
    entry_residue_columns,
    properties_of_group,
)


def dance_loss(
    outputs: Mapping[str, Tensor],
    residue_target: Tensor,
    pair_target: Tensor,
    group: str,
    weights: Mapping[str, float],
    counts: Tensor | None = None,
    present: Tensor | None = None,
) -> dict[str, Tensor]:
    """Loss of a batch of one training group.

    For a property p: loss_p = 1/n * sum over proteins b of sqrt(MSE_b), with MSE_b over the valid positions of protein
    b and all bins of p, and n the number of proteins that have p and a valid position. loss = sum_p weight_p * loss_p.

    Parameters
    ----------
    outputs
        Property -> prediction of `DanceModel`: (B, L), (B, L, bins) or (B, L, L) float.
    residue_target
        (B, L, 47) for MD groups, (B, L, 3) for Proteinflow. A row is valid where its column 0 is not -1.
    pair_target
        (B, L, L, 10) or (B, L, L, 3). A pair is valid where its channel 0 is not -1.
    group, weights
        One of `properties.GROUPS`, and property -> weight in it.
    counts
        (properties of the group,) float: n of each property. Default: `valid_counts` of this batch. With the sum of the
        ranks' `valid_counts` divided by the number of ranks, the mean gradient of the ranks is that of one process
        with the whole batch.
    present
        (B, properties of the group) bool: whether a protein has the property; default: all have all.

    Returns
    -------
    Property -> scalar loss (0 if no protein is valid), and `loss`, the weighted sum. Gradients are 0 where MSE is 0.
    """
    if counts is None:
        counts = valid_counts(residue_target, pair_target, group, present)
    counts = counts.where(counts > 0, 1)  # the sum is 0 where no protein is valid
    valid_residue = residue_target[..., 0] != MISSING  # (B, L)
    valid_pair = pair_target[..., 0] != MISSING  # (B, L, L)
    names = properties_of_group(group)
    losses: dict[str, Tensor] = {}
    for k, (name, count) in enumerate(zip(names, counts, strict=True)):
        if name in RESIDUE_COLUMNS:
            target = residue_target[..., entry_residue_columns(name)]  # (B, L, bins)
            valid = valid_residue[..., None]
        else:
            target = pair_target[..., entry_pair_channel(name)]  # (B, L, L)
            valid = valid_pair
        if present is not None:
            valid = valid & present[:, k, None, None]
        losses[name] = _sum_of_rmse(outputs[name].reshape(target.shape), target, valid) / count
    losses["loss"] = torch.stack([weights[name] * losses[name] for name in names]).sum()
    return losses


def valid_counts(residue_target: Tensor, pair_target: Tensor, group: str, present: Tensor | None = None) -> Tensor:
    """Number of proteins with a valid position, (properties of the group,) float32; arguments as in `dance_loss`."""
    residue = (residue_target[..., 0] != MISSING).flatten(1).any(1)  # (B,)
    pair = (pair_target[..., 0] != MISSING).flatten(1).any(1)
    valid = torch.stack([residue if name in RESIDUE_COLUMNS else pair for name in properties_of_group(group)], dim=1)
    return (valid if present is None else valid & present).sum(0).float()


def _sum_of_rmse(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Sum over proteins of sqrt(MSE over valid positions), 0 for a protein without any.

    prediction, target (B, ...) float; valid broadcasts to them. Masked sums keep shapes independent of the data.
    """
    error = (prediction.float() - target.float()).masked_fill(~valid, 0)
    positions = valid.expand_as(error).flatten(1).sum(1).clamp(min=1)  # (B,)
    mse = error.square().flatten(1).sum(1) / positions  # (B,)
    positive = mse > 0  # sqrt has no finite derivative at 0
    return torch.where(positive, torch.where(positive, mse, 1).sqrt(), 0).sum()
