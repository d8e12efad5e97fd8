"""SeqDance and ESMDance: 23 dynamic properties of residues and residue pairs from sequence.

Source: Hou, Zhao, Shen, PNAS 2026 (doi 10.1073/pnas.2530466123).
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prepare.errors import InputError, first_line
from data_prepare.files import whole_file, write_text
from data_prepare.properties import (
    INTERACTIONS,
    NUM_PAIR_OUTPUTS,
    NUM_RESIDUE_OUTPUTS,
    PAIR_CHANNELS,
    RESIDUE_COLUMNS,
)
from model.config import ModelConfig
from model.network.encoder import Esm2Encoder
from model.network.heads import attention_logits, head, linear, pair_logits
from model.network.hub import hub_file

SOFTPLUS_THRESHOLD: Final = 2.0  # softplus(x) = x above it

# entries of published weight files that play no part
UNUSED_ENTRIES: Final = re.compile(
    r"esm2\.pooler\..*|esm2\.contact_head\..*|esm2\.embeddings\.position_embeddings\.weight"
    r"|esm2\.embeddings\.position_ids|.*\.inv_freq"
)
# the same for the encoder alone, named without a prefix: heads of ESM2, or of SeqDance and ESMDance
UNUSED_ESM2_ENTRIES: Final = re.compile(
    r"lm_head\..*|pooler\..*|contact_head\..*|embeddings\.position_embeddings\.weight|embeddings\.position_ids"
    r"|.*\.inv_freq|(res_pred_nn|res_transform_nn|pair_middle_linear|pair_pred_linear)\..*"
)

# some releases of transformers write the LayerNorms of ESM2 under the names of TensorFlow
OLD_ESM2_NAMES: Final = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

WEIGHTS_NAME: Final = "model.safetensors"
CONFIG_NAME: Final = "config.json"
TORCH_SUFFIXES: Final = (".pt", ".pth", ".bin")


class DanceModel(nn.Module):
    """SeqDance, or ESMDance where the configuration freezes the encoder.

    Parameter names are the published ones. A new model holds random weights; ESMDance starts from
    `load_esm2_encoder(model, "facebook/esm2_t12_35M_UR50D")`.
    """

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

    def train(self, mode: bool = True) -> Self:
        """Training mode; a frozen encoder stays in evaluation mode."""
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
        """Predict properties of a batch of tokenised sequences.

        Parameters
        ----------
        input_ids
            (B, L) int64, see `tokenizer.tokenize`.
        attention_mask
            (B, L), 1 for tokens and 0 for padding. Default: no padding.
        residue, pair, embedding, attention
            What to compute.

        Returns
        -------
        dict
            Float tensors in token space, rows of <cls>, <eos> and padding included. residue: property -> (B, L), or
            (B, L, bins) for ss, chi, phi, psi; pair: property -> (B, L, L); embedding: `res_emb` (B, L, hidden), the
            last hidden state; attention: `attention_map` (B, L, L, layers * heads), channel = layer * heads + head,
            value at (i, j) = attention of query i on key j.
        """
        kept: list[Tensor] = []
        attention_part: Tensor | float = 0.0  # of the pair logits, (B, 13, L, L); grows layer by layer
        heads_learn = torch.is_grad_enabled()

        def sink(layer: int, maps: Tensor) -> None:
            nonlocal attention_part
            if attention:
                kept.append(maps)
            if pair:
                with torch.set_grad_enabled(heads_learn):
                    attention_part = attention_part + attention_logits(maps, layer, self.pair_pred_linear).float()

        with torch.set_grad_enabled(heads_learn and not self.config.freeze_encoder):
            hidden = self.esm2(input_ids, attention_mask, sink if pair or attention else None)  # (B, L, hidden)

        outputs: dict[str, Tensor] = {}
        if residue:
            outputs |= residue_properties(self.res_pred_nn(hidden).float())
        if pair:
            q, k = self.res_transform_nn(hidden).chunk(2, dim=-1)  # each (B, L, hidden)
            recompute = input_ids.shape[1] > self.config.pair_recompute_above
            head_layers = (self.pair_middle_linear, self.pair_pred_linear)
            logits = pair_logits(q, k, *head_layers, self.config.pair_tile, recompute)  # (B, 13, L, L)
            outputs |= pair_properties(logits + attention_part)
        if embedding:
            outputs["res_emb"] = hidden
        if attention:
            outputs["attention_map"] = torch.cat(kept, dim=1).permute(0, 2, 3, 1)  # (B, L, L, layers * heads)
        return outputs

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights under the published names, always strictly.

        Entries that play no part (`UNUSED_ENTRIES`) are passed over.

        Raises
        ------
        InputError
            Names are missing or unknown, or shapes differ.
        """
        used = {name: value for name, value in state_dict.items() if not UNUSED_ENTRIES.fullmatch(name)}
        check_entries(self, used, "model weights")
        return super().load_state_dict(used, strict=True, assign=assign)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `model.safetensors` and `config.json` into a folder; each appears complete or not at all."""
        write_weights(Path(folder) / WEIGHTS_NAME, self)
        write_text(Path(folder) / CONFIG_NAME, json.dumps(self.config.to_dict(), indent=2) + "\n")


def residue_properties(logits: Tensor) -> dict[str, Tensor]:
    """(B, L, 50) -> residue property -> (B, L) or (B, L, bins): distributions, RMSF from 0 to 1, else at least 0."""
    outputs = {}
    widths = [width for _, width in RESIDUE_COLUMNS.values()]
    for name, part in zip(RESIDUE_COLUMNS, logits.split(widths, dim=-1), strict=True):  # part (B, L, bins)
        if part.shape[-1] > 1:
            outputs[name] = part.softmax(-1)
        elif name == "rmsf_nor":
            outputs[name] = part.squeeze(-1).sigmoid()
        else:
            outputs[name] = F.softplus(part.squeeze(-1), threshold=SOFTPLUS_THRESHOLD)
    return outputs


def pair_properties(logits: Tensor) -> dict[str, Tensor]:
    """(B, 13, L, L) -> pair property -> (B, L, L): correlations from -1 to 1, interaction frequencies at least 0."""
    outputs = {}
    for name, channel in zip(PAIR_CHANNELS, logits.unbind(1), strict=True):  # channel (B, L, L)
        if name in INTERACTIONS:
            outputs[name] = F.softplus(channel, threshold=SOFTPLUS_THRESHOLD)
        else:
            outputs[name] = 2 * channel.sigmoid() - 1
    return outputs


def load_model(path_or_hub_id: str | os.PathLike[str], device: str | torch.device = "auto") -> DanceModel:
    """Load a trained model in evaluation mode.

    Parameters
    ----------
    path_or_hub_id
        A folder with `model.safetensors` and `config.json`; a .safetensors file or a .pt state dict (a `config.json`
        beside it is used, else the sizes are read from the tensors, which say nothing about dropout or freezing); or
        the id of a Hub repository such as `ChaoHou/ESMDance`.
    device
        Where to put it; "auto" takes a GPU if there is one.

    Raises
    ------
    InputError
        There is no such file or repository, or its content does not fit.
    """
    weights, config_path = find_weights(path_or_hub_id, (WEIGHTS_NAME,))
    state = {name: value for name, value in read_weights(weights).items() if not UNUSED_ENTRIES.fullmatch(name)}
    config = read_config(config_path) if config_path else infer_config(state, weights)
    try:
        model = DanceModel(config)
        model.load_state_dict(state)
    except InputError as error:
        raise InputError(f"{weights}: {error}") from None
    return model.to(choose_device(device)).eval()


def load_esm2_encoder(model: DanceModel, path_or_hub_id: str | os.PathLike[str]) -> None:
    """Put the weights of ESM2, or of the encoder of a SeqDance or ESMDance model, into the encoder of a model.

    Parameters
    ----------
    model
        Its encoder must have the sizes of the other.
    path_or_hub_id
        A folder written by Hugging Face `EsmModel` or `EsmForMaskedLM` (`model.safetensors` or `pytorch_model.bin`)
        or by `DanceModel.save_pretrained`, a weight file of either kind, or a Hub id such as
        `facebook/esm2_t12_35M_UR50D` or `ChaoHou/ESMDance`.

    Raises
    ------
    InputError
        There is no such file or repository, or its content does not fit.
    """
    state, sizes = read_esm2(path_or_hub_id)
    heads = sizes.get("num_attention_heads", sizes.get("heads", model.config.heads))  # ESM2's file, ours
    if heads != model.config.heads:  # the one size that no tensor shows
        raise InputError(f"{path_or_hub_id}: {heads} attention heads, the model has {model.config.heads}; adapt heads")
    state = {name: value for name, value in state.items() if not UNUSED_ESM2_ENTRIES.fullmatch(name)}
    check_entries(model.esm2, state, str(path_or_hub_id))
    model.esm2.load_state_dict(state)


def read_esm2(path_or_hub_id: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights as `load_esm2_encoder` finds them, or in several files with an index.

    Returns
    -------
    dict
        Name -> tensor; names of the encoder without prefix (`esm.`, `esm2.`), those of heads as they are.
    dict
        Content of config.json, empty if there is none.
    """
    names = (WEIGHTS_NAME, "pytorch_model.bin")
    indices = (Path(path_or_hub_id) / f"{name}.index.json" for name in names)
    if index := next((path for path in indices if path.is_file()), None):
        try:
            files = {index.parent / Path(name).name for name in read_json(index)["weight_map"].values()}
        except (KeyError, AttributeError, TypeError):
            raise InputError(f"{index}: not an index of weight files; get the file again") from None
        if absent := [str(path) for path in sorted(files) if not path.is_file()]:
            raise InputError(f"{index} names files that are not here: {', '.join(absent)}; get them too")
        config: Path | None = index.parent / CONFIG_NAME
    else:
        weights, config = find_weights(path_or_hub_id, names)
        files = {weights}
    state = {}
    for path in sorted(files):
        for name, value in read_weights(path).items():
            name = name.removeprefix("esm2.").removeprefix("esm.")
            for old, new in OLD_ESM2_NAMES.items():
                name = name.replace(old, new)
            state[name] = value
    return state, read_json(config) if config and config.is_file() else {}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file or a plain state dict (.pt, .pth, .bin); nothing else is unpickled."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise InputError(f"{path}: not a weight file; .safetensors, {', '.join(TORCH_SUFFIXES)} are known")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as weights ({first_line(error)}); get the file again") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: does not hold a plain state dict (name -> tensor)")
    return dict(state)


def write_weights(path: Path, module: nn.Module) -> None:
    """Write the weights of a module as .safetensors; the file appears complete or not at all."""
    from safetensors.torch import save

    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with whole_file(path) as temporary:
        temporary.write_bytes(save(weights, metadata={"format": "pt"}))  # `save_file` hides it from other users


def read_config(path: Path) -> ModelConfig:
    """Configuration from a config.json, ours or the published form."""
    try:
        return ModelConfig.from_dict(read_json(path))
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def infer_config(state: Mapping[str, Tensor], source: object = "weights") -> ModelConfig:
    """Sizes of a model from its tensors; heads = channels of `pair_middle_linear` / layers."""
    try:
        hidden = state["esm2.embeddings.word_embeddings.weight"].shape[1]
        feed_forward = state["esm2.encoder.layer.0.intermediate.dense.weight"].shape[0]
        maps = state["pair_middle_linear.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise InputError(
            f"{source}: not weights of SeqDance or ESMDance (no {first_line(error)}); name another file"
        ) from None
    layers = len({name.split(".")[3] for name in state if name.startswith("esm2.encoder.layer.")})
    if maps % layers:
        raise InputError(f"{source}: {maps} attention maps of {layers} layers; put the model's {CONFIG_NAME} beside it")
    return ModelConfig(hidden=hidden, layers=layers, heads=maps // layers, feed_forward=feed_forward)


def check_entries(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise InputError unless names and shapes are exactly those of the module."""
    own = module.state_dict()
    problems = [
        ("missing", [name for name in own if name not in state]),
        ("unknown", [name for name in state if name not in own]),
        (
            "of another shape",
            [
                f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
                for name, value in own.items()
                if name in state and state[name].shape != value.shape
            ],
        ),
    ]
    found = [f"{kind}: {', '.join(names)}" for kind, names in problems if names]
    if found:
        raise InputError(f"{source} do not fit the model; {'; '.join(found)}; use weights of the same configuration")


def find_weights(path_or_hub_id: str | os.PathLike[str], names: tuple[str, ...]) -> tuple[Path, Path | None]:
    """Weight file and, if there is one, config.json of a folder, a file or a Hub repository."""
    path = Path(path_or_hub_id)
    if path.is_dir():
        weights = next((path / name for name in names if (path / name).is_file()), None)
        if weights is None:
            raise InputError(f"{path}: no {' or '.join(names)} in this folder; name the weight file itself")
    elif path.is_file():
        weights = path
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", str(path_or_hub_id)) and path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        config = hub_file(str(path_or_hub_id), (CONFIG_NAME,))
        return hub_file(str(path_or_hub_id), names), config
    else:
        raise InputError(f"{path_or_hub_id}: no such file or folder, and not a Hub id of the form owner/name")
    config = weights.parent / CONFIG_NAME
    return weights, config if config.is_file() else None


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout off; the mode of the module comes back afterwards."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def weights_digest(module: nn.Module, *more: object) -> str:
    """Hexadecimal digits that tell a network, and what `more` says of it, from others."""
    digest = hashlib.sha256(repr((type(module).__name__, more)).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def choose_device(device: str | torch.device) -> torch.device:
    """The device of this name; "auto" takes a GPU if there is one. InputError if there is no such device."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device {device!r}: {first_line(error)}; use auto, cpu or cuda") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {device!r}: PyTorch sees no GPU here; use auto or cpu")
    try:
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {device!r}: cannot be used here ({first_line(error)}); use auto or cpu") from None
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Content of a configuration file; InputError if it is not a JSON object."""
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); get the file again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a configuration; get the file again")
    return values
