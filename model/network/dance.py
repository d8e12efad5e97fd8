"""SeqDance and ESMDance: 23 dynamic properties of residues and residue pairs from sequence.

Source: Hou, Zhao, Shen, PNAS 2026 (doi 10.1073/pnas.2530466123).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor

from data_prepare.errors import InputError, InputWarning, first_line, named, require, shown
from data_prepare.properties import NUM_PAIR_OUTPUTS, NUM_RESIDUE_OUTPUTS
from model.config import SIZE_NAMES, ModelConfig
from model.network.checkpoints import CHECKPOINTS, NETWORK_FILES, newest_checkpoint
from model.network.device import choose_device, kernels_for
from model.network.encoder import Esm2Encoder, attention_maps
from model.network.heads import head, linear, pair_properties, residue_properties
from model.network.hub import HubModel
from model.network.language_model import check_esm2
from model.network.names import CONFIG_NAME, DEMO, DEMO_NOTE, WEIGHTS_NAME, find_weights, is_built_in, name_of
from model.network.pair_head import AttentionPart, pair_logits
from model.network.weights import (
    UNUSED_ENTRIES,
    UNUSED_ESM2_ENTRIES,
    load_entries,
    network_digest,
    read_esm2,
    read_json,
    read_weights,
)

OUR_FIELDS: Final = frozenset(asdict(ModelConfig())) | {"model_select"}  # of a config.json, ours or published
HUGGING_FACE_SIZES: Final = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "feed_forward": "intermediate_size",
}


class DanceModel(HubModel):
    """SeqDance, or ESMDance if the configuration freezes the encoder. Parameter names are the published ones.

    A new model has random weights; for ESMDance, call `load_esm2_encoder(model, "facebook/esm2_t12_35M_UR50D")`.
    `name` says where loaded weights come from, and `label` names them in outputs.
    """

    name: str = "untrained"
    kernels: bool = True  # use Triton kernels where they run

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        self.esm2 = Esm2Encoder(config)
        self.res_pred_nn = head(config.hidden, NUM_RESIDUE_OUTPUTS, config.head_dropout)
        self.res_transform_nn = head(config.hidden, 2 * config.hidden, config.head_dropout)
        self.pair_middle_linear = linear(2 * config.hidden, config.maps)
        self.pair_pred_linear = linear(2 * config.maps, NUM_PAIR_OUTPUTS)
        if config.freeze_encoder:
            self.esm2.requires_grad_(False)
        self.train()

    @property
    def digest(self) -> str:
        """Hash of the weights, 12 hexadecimal digits; the same for all files of the same weights."""
        return network_digest(self, self.config.heads, "fp32")[:12]

    @property
    def label(self) -> str:
        """Name and digest, which all outputs carry; that of the demonstration network says what it is."""
        return f"{self.name} {self.digest}" + (f" ({DEMO_NOTE})" if self.name == DEMO else "")

    def train(self, mode: bool = True) -> Self:
        """Set training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.config.freeze_encoder:
            self.esm2.eval()
        return self

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        residue: bool = True,
        pair: bool = True,
        embedding: bool = False,
        attention: bool = False,
    ) -> dict[str, Tensor]:
        """Predict properties of a batch of tokenised sequences: (B, L) int64, see `tokenize`; default: no padding.

        Returns what is asked for, name -> float tensor, with the rows of `<cls>`, of `<eos>`, and of padding, which
        mean nothing. `residue`: property -> (B, L), or (B, L, bins) for ss, chi, phi, psi; `pair`: property ->
        (B, L, L); `embedding`: `res_emb` (B, L, hidden), the last hidden state; `attention`: `attention_map`
        (B, L, L, layers * heads), channel = layer * heads + head, value at (i, j) = attention of query i on key j.
        """
        kept: list[Tensor] = []
        heads_learn, kernels = torch.is_grad_enabled(), kernels_for(input_ids.device) if self.kernels and pair else None
        part = AttentionPart(self.pair_pred_linear, self.config.layers, kernels)

        def sink(*inputs: Any) -> Tensor:
            maps = part.maps(*inputs) if pair else attention_maps(*inputs[1:])
            if attention:
                kept.append(maps)
            return maps

        with torch.set_grad_enabled(heads_learn and not self.config.freeze_encoder):
            hidden = self.esm2(input_ids, attention_mask, sink if pair or attention else None)  # (B, L, hidden)

        outputs: dict[str, Tensor] = {}
        if residue:
            outputs |= residue_properties(self.res_pred_nn(hidden).float())
        if pair:
            q, k = self.res_transform_nn(hidden).chunk(2, dim=-1)  # each (B, L, hidden)
            kernel = None if kernels is None else partial(kernels.tile_logits, part.lengths)
            logits = pair_logits(q, k, self.pair_middle_linear, self.pair_pred_linear, kernel)  # (B, 13, L, L)
            assert part.logits is not None  # the encoder has a layer
            outputs |= pair_properties(part.logits.add_(logits))
        if embedding:
            outputs["res_emb"] = hidden
        if attention:
            outputs["attention_map"] = torch.cat(kept, dim=1).permute(0, 2, 3, 1)  # (B, L, L, layers * heads)
        return outputs

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; InputError if names or shapes do not match, ignoring only `UNUSED_ENTRIES`."""
        used = {name: value for name, value in state_dict.items() if not UNUSED_ENTRIES.fullmatch(name)}
        return load_entries(self, used, "model weights", assign)

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], device: str | torch.device = "auto") -> DanceModel:
        """`load_model` under the name that the libraries of Hugging Face give it."""
        return load_model(source, device)

    @property
    def about(self) -> str:
        """See `HubModel`."""
        form = "ESMDance (frozen encoder of ESM2" if self.config.freeze_encoder else "SeqDance (trained encoder"
        return f"{form}, trained heads): 23 dynamic properties of protein residues and residue pairs from sequence."

    def usage(self, source: str) -> str:
        """See `HubModel`."""
        lines = ["from seqdance import load_model, predict_properties", "", f'model = load_model("{source}")']
        return "\n".join([*lines, 'properties = predict_properties(model, "MQIFVKTLTGKTITLEVEPS")'])


def load_model(source: str | os.PathLike[str], device: str | torch.device = "auto") -> DanceModel:
    """Load a trained model in evaluation mode; `device` "auto" uses a GPU if one is available.

    `source` is "seqdance" or "esmdance" (published, downloaded from the Hub once), "demo" (a small network in this
    package that shows what the commands do; it warns), a folder with `model.safetensors` and `config.json`, a
    .safetensors file, a .pt state dict, the folder of a training run (its newest intact checkpoint), or another Hub
    repository such as `ChaoHou/ESMDance`. Weights in half precision become float32. Without a `config.json` of ours or
    of the published form beside the weights, sizes are inferred from the tensors, with default dropout and nothing
    frozen. InputError if it does not exist or its content does not fit.
    """
    weights, config, state = read_model(source)
    with named(weights):
        with torch.device("meta"):  # sizes that are not those of the weights need no memory
            DanceModel(config).load_state_dict(state, assign=True)
        model = DanceModel(config)
        model.load_state_dict(state)
    model.name = name_of(source, weights)
    if model.name == DEMO:
        warnings.warn(f"{DEMO}: {DEMO_NOTE}; for those use seqdance or esmdance", InputWarning, stacklevel=2)
    return model.to(choose_device(device)).eval()


def read_model(source: str | os.PathLike[str]) -> tuple[Path, ModelConfig, dict[str, Tensor]]:
    """Weight file, configuration and weights by name of a trained model; for the parameter see `load_model`."""
    run = Path(source) / CHECKPOINTS
    if run.is_dir() and not is_built_in(source) and not (run.parent / WEIGHTS_NAME).is_file():
        newest = newest_checkpoint(run, NETWORK_FILES)
        require(newest, f"{source}: a training run without an intact checkpoint; give other weights")
        source = newest or source
    weights, config = find_weights(source, (WEIGHTS_NAME,))
    state = read_weights(weights)
    with named(weights):
        return weights, read_config(config) if config and is_config(config) else infer_config(state), state


def load_initial_weights(model: DanceModel, path_or_hub_id: str | os.PathLike[str]) -> None:
    """Load the weights of SeqDance or ESMDance (see `load_model`) into a model of the same sizes."""
    weights, config, state = read_model(path_or_hub_id)
    theirs, ours = config.heads, model.config.heads  # no tensor shape shows them
    require(theirs == ours, f"{path_or_hub_id}: {theirs} attention heads, the model has {ours}; adapt heads")
    with named(weights):
        model.load_state_dict(state)


def model_sizes(path_or_hub_id: str | os.PathLike[str]) -> dict[str, int]:
    """Sizes of a trained model, by the names of `ModelConfig`; for the parameter see `load_model`."""
    _, config, _ = read_model(path_or_hub_id)
    return {name: getattr(config, name) for name in SIZE_NAMES}


def load_esm2_encoder(model: DanceModel, path_or_hub_id: str | os.PathLike[str]) -> None:
    """Load the encoder weights of ESM2, SeqDance or ESMDance (see `read_esm2`) into a model of the same sizes.

    Raises InputError if they are missing or do not fit, or are those of a form of ESM other than ESM2.
    """
    state, values = read_esm2(path_or_hub_id)
    ours = model.config.heads
    heads = _encoder_sizes(path_or_hub_id, state, values).get("heads", ours)
    where = f"{path_or_hub_id}: {CONFIG_NAME}" if values and Path(path_or_hub_id).is_dir() else path_or_hub_id
    require(heads == ours, f"{where}: {shown(heads)} attention heads, the model has {ours}; adapt heads")
    state = {name: value for name, value in state.items() if not UNUSED_ESM2_ENTRIES.fullmatch(name)}
    load_entries(model.esm2, state, path_or_hub_id)


def encoder_sizes(path_or_hub_id: str | os.PathLike[str]) -> dict[str, int]:
    """Sizes of the encoder of ESM2, SeqDance or ESMDance (see `read_esm2`), by the names of `ModelConfig`.

    They come from config.json, otherwise from the tensors. The number of attention heads is absent where neither tells
    it. Raises InputError for weights of another kind.
    """
    return _encoder_sizes(path_or_hub_id, *read_esm2(path_or_hub_id))


def _encoder_sizes(
    path_or_hub_id: str | os.PathLike[str], state: Mapping[str, Tensor], values: dict[str, Any]
) -> dict[str, int]:
    """See `encoder_sizes`; `state` and `values` as from `read_esm2`."""
    with named(path_or_hub_id):
        if "hidden_size" in values:  # of Hugging Face
            check_esm2(path_or_hub_id, values)
            given = {name: values.get(theirs) for name, theirs in HUGGING_FACE_SIZES.items()}
        elif values.keys() & OUR_FIELDS:
            given = {name: getattr(ModelConfig.from_dict(values), name) for name in SIZE_NAMES}
        else:
            given = {}
        return infer_encoder_sizes(state) | {name: value for name, value in given.items() if value is not None}


def infer_encoder_sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes of an encoder inferred from tensors under the names of `read_esm2`; heads only if a tensor shows them."""
    layers = len({name.split(".")[2] for name in state if name.startswith("encoder.layer.")})
    frequencies = "encoder.layer.0.attention.self.rotary_embeddings.inv_freq"
    try:
        hidden = state["embeddings.word_embeddings.weight"].shape[1]
        feed_forward = state["encoder.layer.0.intermediate.dense.weight"].shape[0]
        sizes = {"hidden": hidden, "layers": layers, "feed_forward": feed_forward}
        if "pair_middle_linear.weight" in state:
            sizes["heads"] = state["pair_middle_linear.weight"].shape[0] // layers
        elif "contact_head.regression.weight" in state:
            sizes["heads"] = state["contact_head.regression.weight"].shape[1] // layers
        elif frequencies in state:
            sizes["heads"] = hidden // (2 * state[frequencies].shape[0])
    except (KeyError, IndexError, ZeroDivisionError) as error:
        remedy = "give weights of ESM2, SeqDance or ESMDance"
        raise InputError(f"not weights of an encoder ({first_line(error)}); {remedy}") from None
    return sizes


def is_config(path: Path) -> bool:
    """Whether a config.json is in our or the published form, not that of another program."""
    return bool(read_json(path).keys() & OUR_FIELDS)


def read_config(path: Path) -> ModelConfig:
    """Configuration from a config.json, in our or the published form."""
    values = read_json(path)
    with named(path):
        return ModelConfig.from_dict(values)


def infer_config(state: Mapping[str, Tensor]) -> ModelConfig:
    """Sizes inferred from tensors; heads = channels of `pair_middle_linear` / layers."""
    head = "pair_middle_linear.weight"
    require(head in state, f"not weights of SeqDance or ESMDance (no {head}); name another file")
    sizes = infer_encoder_sizes({name.removeprefix("esm2."): value for name, value in state.items()})
    maps, layers = state[head].shape[0], sizes["layers"]
    require(not maps % layers, f"{maps} attention maps of {layers} layers; add the {CONFIG_NAME} of the model")
    return ModelConfig.from_dict(sizes)
