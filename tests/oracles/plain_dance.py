"""SeqDance in plain form, from the formulas of the paper: every large tensor is built, all attention maps are kept.

The oracle of the fast forms in `model/`, and what the benchmarks compare with. Weights have the published names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

MASK_ID = 32
MD_PAIR = ("vdw", "hbbb", "hbsb", "hbss", "hp", "sb", "pc", "ps", "ts")
SIGNED_PAIR = ("corr", "nma_pair1", "nma_pair2", "nma_pair3")
RESIDUE = (
    *(("sasa_mean", 1), ("sasa_std", 1), ("rmsf_nor", 1), ("ss", 8), ("chi", 12), ("phi", 12), ("psi", 12)),
    *(("nma_res1", 1), ("nma_res2", 1), ("nma_res3", 1)),
)


def plain_pair_head(
    q: Tensor, k: Tensor, maps: Tensor, middle: tuple[Tensor, Tensor], pred: tuple[Tensor, Tensor]
) -> Tensor:
    """Pair logits, sample by sample.

    q, k (B, L, hidden), maps (B, L, L, channels), middle and pred: weight and bias of the two linear maps
    -> (B, L, L, 13), row i, column j.
    """
    logits = []
    for q_b, k_b, maps_b in zip(q, k, maps, strict=True):
        product = q_b[None, :, :] * k_b[:, None, :]  # (i, j, hidden)
        difference = q_b[None, :, :] - k_b[:, None, :]  # (i, j, hidden)
        mid = F.gelu(F.linear(torch.cat((product, difference), dim=-1), *middle))  # (L, L, channels)
        logits.append(F.linear(torch.cat((mid, maps_b), dim=-1), *pred))  # (L, L, 13)
    return torch.stack(logits)


def plain_dance(
    weights: Mapping[str, Tensor],
    heads: int,
    input_ids: Tensor,
    attention_mask: Tensor,
    encoder_dropout: float = 0.0,
    head_dropout: float = 0.0,
    frozen: bool = False,
) -> dict[str, Tensor]:
    """All 23 properties of a batch.

    weights: name -> tensor; heads of a layer; input_ids (B, L) int64; attention_mask (B, L), 0 for padding; the dropout
    probabilities; frozen: no gradients of the encoder. -> residue property (B, L) or (B, L, bins), pair (B, L, L).
    """

    def dense(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def nn(name: str, x: Tensor) -> Tensor:
        return dense(f"{name}.4", F.dropout(norm(f"{name}.2", F.gelu(dense(f"{name}.0", x))), head_dropout))

    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        mask = attention_mask.bool()
        masked = (input_ids == MASK_ID) & mask
        share = masked.sum(1) / mask.sum(1)  # (B,)
        x = weights["esm2.embeddings.word_embeddings.weight"][input_ids]  # (B, L, hidden)
        x = x * (mask & ~masked)[..., None] * ((1 - 0.15 * 0.8) / (1 - share))[:, None, None]
        batch, length, hidden = x.shape
        size = hidden // heads

        def by_head(x: Tensor) -> Tensor:
            return x.view(batch, length, heads, size).transpose(1, 2)  # (B, heads, L, size)

        angle = torch.arange(length, device=x.device)[:, None] * 10000.0 ** (
            -torch.arange(0, size, 2, device=x.device) / size
        )  # (L, size / 2)

        def turn(x: Tensor) -> Tensor:
            a, b = x[..., : size // 2], x[..., size // 2 :]
            return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), dim=-1)

        maps = []
        for layer in range(len({name.split(".")[3] for name in weights if name.startswith("esm2.encoder.layer.")})):
            name = f"esm2.encoder.layer.{layer}"
            y = norm(f"{name}.attention.LayerNorm", x)
            query, key, value = (by_head(dense(f"{name}.attention.self.{n}", y)) for n in ("query", "key", "value"))
            scores = turn(query * size**-0.5) @ turn(key).transpose(2, 3)  # (B, heads, L, L)
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
            maps.append(F.dropout(scores.softmax(-1), encoder_dropout))
            y = (maps[-1] @ value).transpose(1, 2).reshape(batch, length, hidden)
            x = x + F.dropout(dense(f"{name}.attention.output.dense", y), encoder_dropout)
            y = F.gelu(dense(f"{name}.intermediate.dense", norm(f"{name}.LayerNorm", x)))
            x = x + F.dropout(dense(f"{name}.output.dense", y), encoder_dropout)
        x = norm("esm2.encoder.emb_layer_norm_after", x)
        all_maps = torch.cat(maps, dim=1).permute(0, 2, 3, 1)  # (B, L, L, layers * heads)

    outputs = {}
    residue = nn("res_pred_nn", x).split([width for _, width in RESIDUE], dim=-1)
    for (name, width), logits in zip(RESIDUE, residue, strict=True):
        if width > 1:
            outputs[name] = logits.softmax(-1)
        elif name == "rmsf_nor":
            outputs[name] = logits[..., 0].sigmoid()
        else:
            outputs[name] = F.softplus(logits[..., 0], threshold=2)
    q, k = nn("res_transform_nn", x).chunk(2, dim=-1)  # each (B, L, hidden)
    linears = [(weights[f"{n}.weight"], weights[f"{n}.bias"]) for n in ("pair_middle_linear", "pair_pred_linear")]
    pair = plain_pair_head(q, k, all_maps, *linears)  # (B, L, L, 13)
    for channel, name in enumerate((*MD_PAIR, *SIGNED_PAIR)):
        logits = pair[..., channel]  # (B, L, L)
        outputs[name] = F.softplus(logits, threshold=2) if name in MD_PAIR else 2 * logits.sigmoid() - 1
    return outputs
