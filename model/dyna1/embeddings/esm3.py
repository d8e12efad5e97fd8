"""Embeddings of ESM-3 and ESM C, of the package `esm`.

The package pins old libraries. Install it in a separate environment, where `seqdance dyna1 embed`
writes the cache that other environments read. All assumptions about it (3.1 to 3.4) are inside `_assumed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Literal

import torch
from torch import Tensor

from data_prepare.errors import InputError, first_line, require
from model.choices import ESM_PACKAGE
from model.dyna1.embeddings.source import Backbone, Embedder, output_of, residue_tokens
from model.network.device import choose_device
from model.network.weights import weights_digest

DEFAULT_MODEL: Final = "esm3-sm-open-v1"
DEFAULT_LAYER: Final = 22
DEFAULT_ESMC: Final = "esmc_300m"


class EsmC(Embedder):
    """ESM C in float32: a hidden state of the sequence tokens without their begin and end tokens.

    `name` is that of `ESMC.from_pretrained` (esmc_300m, width 960; esmc_600m, width 1152). Hidden state 0 is the output
    of the first transformer block, that of the last block, before the final norm, is the default.
    """

    def __init__(self, name: str = DEFAULT_ESMC, layer: int | None = None, device: str | torch.device = "auto") -> None:
        self.device = choose_device(device)
        self.model, _ = _load(name, "ESMC")
        with _assumed("ESMC.transformer.blocks"):
            blocks = list(self.model.transformer.blocks)
        layer = len(blocks) - 1 if layer is None else layer
        require(0 <= layer < len(blocks), f"{name}: no hidden state {layer}; it has 0 to {len(blocks) - 1}")
        self.block = blocks[layer]
        with _assumed("ESMC.embed"):
            self.width = int(self.model.embed.weight.shape[1])
        self.fingerprint = f"esmc layer {layer} {weights_digest(self.model)}"
        self.model.to(self.device)

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """See `Embedder.embed`. The model reads one chain at a time."""
        embeddings = []
        with torch.no_grad():  # not inference_mode: the classifier may be trained on these
            for sequence in sequences:
                ids = residue_tokens([sequence])[0].to(self.device)  # (1, L); ESM C has the token ids of ESM2
                with _assumed("ESMC.forward(sequence_tokens)"):
                    hidden = output_of(self.block, partial(self.model, sequence_tokens=ids))
                    hidden = hidden.reshape(ids.shape[1], self.width)  # with flash attention it has no batch axis
                embeddings.append(hidden.float().cpu())
        return embeddings


class Esm3(Embedder):
    """ESM-3 in float32: a hidden state of sequence and structure tokens without their begin and end tokens.

    `name` is that of `ESM3.from_pretrained`. Hidden state 0 is the output of the first transformer block.
    """

    reads_structure = True

    def __init__(
        self, name: str = DEFAULT_MODEL, layer: int = DEFAULT_LAYER, device: str | torch.device = "auto"
    ) -> None:
        self.device = choose_device(device)
        self.model, self.esm_protein = _load(name, "ESM3")
        with _assumed("ESM3.transformer.blocks"):
            blocks = list(self.model.transformer.blocks)
        require(0 <= layer < len(blocks), f"{name}: no hidden state {layer}; it has 0 to {len(blocks) - 1}")
        self.block = blocks[layer]
        with _assumed("ESM3.encoder"):
            self.width = int(self.model.encoder.sequence_embed.weight.shape[1])
        self.fingerprint = f"esm3 layer {layer} {weights_digest(self.model)}"
        self.model.to(self.device)

    def embed(self, sequences: Sequence[str], structures: Sequence[Backbone | None] | None = None) -> list[Tensor]:
        """See `Embedder.embed`. The model reads one chain at a time."""
        embeddings = []
        with torch.no_grad():  # not inference_mode: the classifier may be trained on these
            for sequence, structure in zip(sequences, structures or [None] * len(sequences), strict=True):
                ids = residue_tokens([sequence])[0]  # (1, L); ESM-3 has the token ids of ESM2, <mask> included
                n = ids.shape[1] if structure is None else len(structure)
                require(n == ids.shape[1], f"structure of {n} residues, sequence of {ids.shape[1]}; lengths must agree")
                tokens = None if structure is None else self._structure_tokens(structure)
                embeddings.append(self._hidden_state(ids.to(self.device), tokens).float().cpu())
        return embeddings

    def _structure_tokens(self, backbone: Backbone) -> Tensor:
        """(1, L) int64; residues without coordinates get the token that the package assigns them."""
        atoms = torch.full((len(backbone), 37, 3), torch.nan)  # the 37 atoms of AlphaFold2
        atoms[:, :3] = torch.from_numpy(backbone)
        with _assumed("ESM3.encode(ESMProtein)"):
            tokens = self.model.encode(self.esm_protein(coordinates=atoms)).structure
        return tokens[None, 1:-1].to(self.device)  # without begin and end

    def _hidden_state(self, sequence: Tensor, structure: Tensor | None) -> Tensor:
        """(1, L) and (1, L) token ids -> (L, width). Without structure the model assumes masked structure tokens."""
        with _assumed("ESM3.forward(sequence_tokens, structure_tokens)"):
            tokens = {"sequence_tokens": sequence, "structure_tokens": structure}
            return output_of(self.block, lambda: self.model(**tokens))[0]


def _load(name: str, kind: Literal["ESM3", "ESMC"]) -> tuple[Any, Any]:
    """Model in float32 on the CPU, and the class ESMProtein."""
    try:
        from esm.sdk.api import ESMProtein

        if kind == "ESM3":
            from esm.models.esm3 import ESM3 as Model
        else:
            from esm.models.esmc import ESMC as Model
    except ImportError as error:
        raise InputError(
            f"{name} requires the package esm, which cannot be imported ({error}); in another environment pip install "
            f"{ESM_PACKAGE} seqdance, write a cache there (seqdance dyna1 embed) and give cache:FILE.h5 here"
        ) from None
    try:
        model = Model.from_pretrained(name, device=torch.device("cpu"))  # on a GPU it would be bf16
    except Exception as error:  # the Hub client raises errors of several libraries
        raise InputError(
            f"{name}: the package esm cannot load it ({first_line(error)}); accept its terms on the Hub, log in, "
            "and download it on a machine with network access"
        ) from None
    return model.float().eval(), ESMProtein


@contextmanager
def _assumed(what: str) -> Iterator[None]:
    """Turn the errors of a package `esm` with an unexpected interface into one line."""
    try:
        yield
    except (AttributeError, TypeError, ValueError, AssertionError, LookupError) as error:
        raise InputError(
            f"the installed package esm has an unexpected {what} ({first_line(error)}); install {ESM_PACKAGE}"
        ) from None
