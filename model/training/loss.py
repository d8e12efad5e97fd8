"""The training loss: per property the mean over proteins of sqrt(MSE over valid positions), weighted and summed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from data_prepare.properties import MISSING, RESIDUE_COLUMNS, properties_of_group


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
        (properties of the group,) float: n of each property. Default: `valid_counts` of this batch. With those of a
        larger batch, divided by the number of ranks, the mean over the ranks of their summed gradients is the gradient
        of the larger batch, however batches and ranks divide it.
    present
        (B, properties of the group) bool: whether a protein has the property; default: all have all.

    Returns
    -------
    Property -> scalar loss (0 if no protein is valid), and `loss`, the weighted sum. Gradients are 0 where MSE is 0.
    """
    if counts is None:
        counts = valid_counts(residue_target, pair_target, group, present)
    names = properties_of_group(group)
    shape = residue_target.shape[:2]
    # each (B, L, bins)
    residues = [outputs[name].reshape(*shape, RESIDUE_COLUMNS[name][1]) for name in names if name in RESIDUE_COLUMNS]
    pairs = [outputs[name][..., None] for name in names if name not in RESIDUE_COLUMNS]  # each (B, L, L, 1)
    if present is None:
        present = torch.ones(len(residue_target), len(names), dtype=torch.bool, device=residue_target.device)
    has = present.split([len(residues), len(pairs)], dim=1)  # each (B, properties)
    mse = [
        _errors(predictions, target, own)
        for predictions, target, own in zip((residues, pairs), (residue_target, pair_target), has, strict=True)
    ]
    errors = torch.cat(mse, dim=1)  # (B, properties)
    exact = errors == 0  # sqrt has no finite derivative there; NaN stays NaN
    rmse = torch.where(exact, 0, torch.where(exact, 1, errors).sqrt())
    values = rmse.sum(0) / counts.where(counts > 0, 1)  # the sum is 0 where no protein is valid
    weight = torch.tensor([weights[name] for name in names]).to(values.device, non_blocking=True)
    return {**dict(zip(names, values.unbind(), strict=True)), "loss": values @ weight}


def valid_counts(residue_target: Tensor, pair_target: Tensor, group: str, present: Tensor | None = None) -> Tensor:
    """Number of proteins with a valid position, (properties of the group,) float32; arguments as in `dance_loss`."""
    residue = (residue_target[..., 0] != MISSING).flatten(1).any(1)  # (B,)
    channel = pair_target[..., 0]  # (B, L, L)
    pair = (channel.diagonal(dim1=1, dim2=2) != MISSING).any(1)  # quick, and usually enough
    if not pair.all():
        pair = (channel != MISSING).flatten(1).any(1)
    valid = torch.stack([residue if name in RESIDUE_COLUMNS else pair for name in properties_of_group(group)], dim=1)
    return (valid if present is None else valid & present).sum(0).float()


def _errors(predictions: list[Tensor], target: Tensor, present: Tensor) -> Tensor:
    """MSE (B, properties) over the valid positions and all bins, 0 without any or if a property is not `present`.

    predictions, each (B, ..., bins), one after the other have the columns of target (B, ..., K). One pass over all
    properties; masked sums keep shapes independent of the data.
    """
    widths = [prediction.shape[-1] for prediction in predictions]
    valid = (target[..., :1] != MISSING).flatten(1, -2)  # (B, positions, 1)
    of_column = torch.cat([present[:, k, None].expand(-1, width) for k, width in enumerate(widths)], dim=1)  # (B, K)
    error = (torch.cat(predictions, dim=-1).float() - target.float()).flatten(1, -2)  # (B, positions, K)
    squares = error.where(valid & of_column[:, None], 0.0).square().sum(1)  # (B, K)
    if max(widths) > 1:  # over the bins: (B, properties)
        squares = torch.stack([part.mean(-1) for part in squares.split(widths, dim=-1)], dim=1)
    return squares / valid.sum(1).clamp(min=1)
