"""`ESMwrap`: SeqDance and ESMDance behind the interface of the published code, so that programs written for it run.

from seqdance import ESMwrap                    # was: from model import ESMwrap
model = ESMwrap("model_35M", "esmdance").from_pretrained("ChaoHou/ESMDance")
outputs = model(tokenizer(sequences, return_tensors="pt", padding=True), return_pair_pred=False)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from torch import Tensor, nn

from data_prepare.errors import InputWarning, named, require, shown, some_of
from model.config import PUBLISHED_SIZE, ModelConfig
from model.network.dance import DanceModel, is_config, read_model
from model.network.names import CONFIG_NAME, name_of
from model.network.weights import UNUSED_ENTRIES

BATCH: Final = ("input_ids", "attention_mask")  # of a tokenizer, as DanceModel names them
FIRST: Final = ("res_emb", "attention_map")  # keys before the properties


class _FromPretrained:
    """`ESMwrap.from_pretrained`; called on a model, the form of that model is the one asked for."""

    def __get__(self, model: ESMwrap | None, owner: type[ESMwrap]) -> Callable[[str | os.PathLike[str]], ESMwrap]:
        return partial(_from_pretrained, owner, None if model is None else model.model_select)


class ESMwrap(DanceModel):
    """SeqDance or ESMDance as the published class of this name: constructor, loading, forward pass and its outputs.

    `esm2_select` is "model_35M"; `model_select` is "seqdance" (random weights) or "esmdance", whose frozen encoder
    needs weights before its first forward pass: `from_pretrained`, `load_state_dict` or `load_esm2_encoder`. `config`
    replaces both names by other sizes. Our own functions take this class like any `DanceModel`.

    `from_pretrained(what load_model takes)` returns the model in evaluation mode on the CPU. The weights determine its
    form (`model_select`), as in the published code. Called on a model of the other form, it warns.
    """

    from_pretrained = _FromPretrained()  # type: ignore[assignment]
    digest_as = "DanceModel"  # of the same weights, see `weights_digest`

    def __init__(
        self, esm2_select: str = PUBLISHED_SIZE, model_select: str = "seqdance", *, config: ModelConfig | None = None
    ) -> None:
        super().__init__(config or ModelConfig.from_dict({"esm2_select": esm2_select, "model_select": model_select}))
        sizes = {"num_hidden_layers": self.config.layers, "num_attention_heads": self.config.heads}
        self.esm2.config = SimpleNamespace(**sizes, hidden_size=self.config.hidden)  # type: ignore[assignment]
        self.encoder_loaded = False
        self.esm2.register_load_state_dict_post_hook(self._encoder_is_loaded)

    def _encoder_is_loaded(self, *_: object) -> None:
        self.encoder_loaded = True

    @property
    def model_select(self) -> str:
        """ "esmdance" if the encoder is frozen, else "seqdance"."""
        return "esmdance" if self.config.freeze_encoder else "seqdance"

    def forward(  # type: ignore[override]
        self, batch: Any, *options: Any, **named_options: Any
    ) -> dict[str, Tensor]:
        """Predict a batch of a Hugging Face tokenizer, or a dictionary, of `input_ids` and `attention_mask` (B, L).

        Options: return_res_emb=False, return_attention_map=False, return_res_pred=True, return_pair_pred=True. Returns,
        in the published order, `res_emb` (B, L, hidden), `attention_map` (B, L, L, layers * heads), then residue
        properties (B, L) or (B, L, bins), then pair properties (B, L, L). With a tensor of token ids, the parameters
        are those of `DanceModel.forward`. InputError if the batch is another, or an ESMDance has no encoder weights.
        """
        remedy = 'call from_pretrained, load_state_dict or load_esm2_encoder(model, "facebook/esm2_t12_35M_UR50D")'
        ready = self.encoder_loaded or not self.config.freeze_encoder
        require(ready, f"the frozen encoder of this ESMDance has random weights; {remedy}")
        if isinstance(batch, Tensor):
            return super().forward(batch, *options, **named_options)
        return self._outputs(batch, *options, **named_options)

    def _outputs(
        self,
        batch: Mapping[str, Tensor],
        return_res_emb: bool = False,
        return_attention_map: bool = False,
        return_res_pred: bool = True,
        return_pair_pred: bool = True,
    ) -> dict[str, Tensor]:
        remedy = 'give what a tokenizer returns with return_tensors="pt"'
        fits = isinstance(batch, Mapping) and "input_ids" in batch and set(batch) <= set(BATCH)
        require(fits, f"a batch has {' and '.join(BATCH)}, not {shown(batch)}; {remedy}")
        lists = [name for name in batch if not isinstance(batch[name], Tensor)]
        require(not lists, f"{', '.join(lists)}: not a tensor; {remedy}")
        found = super().forward(
            **batch,
            residue=return_res_pred,
            pair=return_pair_pred,
            embedding=return_res_emb,
            attention=return_attention_map,
        )
        return {name: found[name] for name in FIRST if name in found} | found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; with `strict=False` names may be missing or unknown, which a warning counts.

        Returns PyTorch's (missing, unexpected), without the entries of published files that have no use.
        """
        if strict:
            return super().load_state_dict(state_dict, assign=assign)
        used = {name: value for name, value in state_dict.items() if not UNUSED_ENTRIES.fullmatch(name)}
        found = nn.Module.load_state_dict(self, used, strict=False, assign=assign)
        if found.missing_keys or found.unexpected_keys:
            kinds = {"missing": found.missing_keys, "unknown": found.unexpected_keys}
            problems = [f"{len(names)} {kind} ({some_of(names, 2)})" for kind, names in kinds.items() if names]
            warnings.warn(f"model weights do not fit: {', '.join(problems)}", InputWarning, stacklevel=2)
        return found

    def extra_repr(self) -> str:
        """What the model is."""
        return f"{self.model_select}, hidden={self.config.hidden}, layers={self.config.layers}"


def _from_pretrained(owner: type[ESMwrap], asked: str | None, source: str | os.PathLike[str]) -> ESMwrap:
    weights, sizes, state = read_model(source)
    config = weights.parent / CONFIG_NAME
    known = config.is_file() and is_config(config)
    if not known and asked == "esmdance":
        sizes = replace(sizes, freeze_encoder=True, encoder_dropout=0.0)
    model = owner(config=sizes)
    with named(weights):
        model.load_state_dict(state)
    model.name = name_of(source, weights)
    problem = None
    if not known:
        problem = f"has no config.json and may be SeqDance or ESMDance; taken for {model.model_select}"
    elif asked not in (None, model.model_select):
        problem = f"is {model.model_select}, not {asked} as this ESMwrap; {model.model_select} is loaded"
    if problem:
        warnings.warn(f"{source} {problem}", InputWarning, stacklevel=2)
    return model.eval()
