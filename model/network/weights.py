"""Weight files: read without running code, checked name by name, written atomically."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from data_prepare.errors import reading, require, shown
from data_prepare.files import whole_file, write_text
from model.config import Precision
from model.network.device import choose_precision, device_of
from model.network.names import CONFIG_NAME, TORCH_SUFFIXES, WEIGHTS_NAME, find_weights

STATE_NAMES: Final = ("model_state_dict", "state_dict", "model")  # of the weights inside a checkpoint
DISTRIBUTED: Final = "module."

_UNUSED: Final = r"pooler\..*|contact_head\..*|embeddings\.position_embeddings\.weight|embeddings\.position_ids"
# entries of published SeqDance and ESMDance files that the network does not use
UNUSED_ENTRIES: Final = re.compile(rf"esm2\.({_UNUSED})|.*\.inv_freq")
# entries that the encoder alone does not use, named without a prefix
UNUSED_ESM2_ENTRIES: Final = re.compile(
    rf"{_UNUSED}|.*\.inv_freq|(lm_head|res_pred_nn|res_transform_nn|pair_middle_linear|pair_pred_linear)\..*"
)


# names of fair-esm -> those of Hugging Face
FAIR_ESM_NAMES: Final = (
    (r"^encoder\.(sentence_encoder\.)?", ""),
    (r"^embed_tokens\.", "embeddings.word_embeddings."),
    (r"^layers\.", "encoder.layer."),
    (r"\.self_attn\.q_proj\.", ".attention.self.query."),
    (r"\.self_attn\.k_proj\.", ".attention.self.key."),
    (r"\.self_attn\.v_proj\.", ".attention.self.value."),
    (r"\.self_attn\.out_proj\.", ".attention.output.dense."),
    (r"\.self_attn_layer_norm\.", ".attention.LayerNorm."),
    (r"\.fc1\.", ".intermediate.dense."),
    (r"\.fc2\.", ".output.dense."),
    (r"\.final_layer_norm\.", ".LayerNorm."),
    (r"^emb_layer_norm_after\.", "encoder.emb_layer_norm_after."),
    (r"^lm_head\.weight$", "lm_head.decoder.weight"),
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file or a PyTorch state dict (.pt, .pth, .bin), also one in a checkpoint.

    Names lose the prefix `module.` of DistributedDataParallel. Raises InputError if the file is damaged or holds
    anything else.
    """
    return _tensors(path, _read(path))


def _read(path: Path) -> Mapping[Any, Any]:
    """Content of a weight file.

    PyTorch files may have argparse.Namespace (those of fair-esm), and are mapped into memory: those of Dyna-1 may
    contain a language model of 6 GB.
    """
    from safetensors.torch import load_file

    known = (".safetensors", *TORCH_SUFFIXES)
    require(path.suffix in known, f"{path}: not a weight file; its name must end in {', '.join(known)}")
    if path.suffix == ".safetensors":
        with reading(path, "a weight file"):
            return load_file(path)
    with torch.serialization.safe_globals([Namespace]):
        content = load_torch(path, "a weight file", mapped=zipfile.is_zipfile(path))
    require(isinstance(content, Mapping), f"{path}: not a state dict (name -> tensor); give the weights alone")
    return content


def load_torch(path: Path, what: str, remedy: str = "copy or download it again", mapped: bool = False) -> Any:
    """Content of a file of `torch.save`, on the CPU; InputError (see `reading`) if it is damaged or foreign.

    Only tensors and plain values are unpickled. An archive can be `mapped` into memory.
    """
    with reading(path, what, remedy):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as records:  # PyTorch allocates the size that a record declares
                whole = all(record.file_size == record.compress_size for record in records.infolist())
            if not whole or sum(record.file_size for record in records.infolist()) > path.stat().st_size:
                raise ValueError("sizes of its records are not those of torch.save")
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:  # its message recommends to run the code in the file
            names = re.search(r"GLOBAL ([\w.]+)", str(error))
            found = f"names {shown(names[1])}, which could run code" if names else "a damaged or foreign pickle"
            raise ValueError(found) from None
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise MemoryError from None
            raise


def _tensors(path: Path, content: Mapping[Any, Any]) -> dict[str, Tensor]:
    state = next((content[name] for name in STATE_NAMES if isinstance(content.get(name), Mapping)), content)
    plain = all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
    require(plain, f"{path}: not a plain state dict (name -> tensor); give the weights alone")
    size = path.stat().st_size
    absurd = next((name for name, value in state.items() if value.layout != torch.strided or value.nbytes > size), None)
    require(absurd is None, f"{path}: damaged, {shown(absurd)} is larger than the file; copy or download it again")
    prefix = DISTRIBUTED if all(name.startswith(DISTRIBUTED) for name in state) else ""
    return {name.removeprefix(prefix): value for name, value in state.items()}


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON configuration."""
    with reading(path, "a JSON configuration"):
        values = json.loads(path.read_text(encoding="utf-8"))
    require(isinstance(values, dict), f"{path}: not a configuration; copy or download it again")
    return values


def write_model(folder: str | os.PathLike[str], model: Any) -> None:
    """Write `model.safetensors` and `config.json`, from `model.config`, to a folder, each atomically."""
    from safetensors.torch import save

    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with whole_file(Path(folder) / WEIGHTS_NAME) as temporary:
        temporary.write_bytes(save(weights, metadata={"format": "pt"}))  # `save_file` makes it unreadable to others
    write_text(Path(folder) / CONFIG_NAME, json.dumps(asdict(model.config), indent=2) + "\n")


def load_entries(module: nn.Module, state: Mapping[str, Tensor], source: object, assign: bool = False) -> Any:
    """Load weights; InputError that names their `source` unless names and shapes are exactly those of the module."""
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    shapes = [f"{name} {given[name]} instead of {own[name]}" for name in own if given.get(name, own[name]) != own[name]]
    problems = {
        "missing": [name for name in own if name not in given],
        "unknown": [name for name in given if name not in own],
        "of another shape": shapes,
    }
    found = [f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    require(not found, f"{source} do not fit the model; {'; '.join(found)}; use weights of the same configuration")
    return nn.Module.load_state_dict(module, state, assign=assign)


def read_esm2(path_or_hub_id: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of ESM2, SeqDance or ESMDance by name, without the prefix `esm.` or `esm2.`, and config.json (or empty).

    `path_or_hub_id` is a folder written by Hugging Face `EsmModel` or `EsmForMaskedLM` (one weight file, or several
    with an index) or by `DanceModel.save_pretrained`, a weight file, also one of fair-esm (esm2_t12_35M_UR50D.pt), or a
    Hub id such as `facebook/esm2_t12_35M_UR50D`.
    """
    names = (WEIGHTS_NAME, "pytorch_model.bin")
    indices = (Path(path_or_hub_id) / f"{name}.index.json" for name in names)
    if index := next((path for path in indices if path.is_file()), None):
        with reading(index, "an index of weight files"):
            files = {index.parent / Path(name).name for name in read_json(index)["weight_map"].values()}
        absent = [str(path) for path in sorted(files) if not path.is_file()]
        require(not absent, f"{index} lists missing files: {', '.join(absent)}; download them too")
        config: Path | None = index.parent / CONFIG_NAME
    else:
        weights, config = find_weights(path_or_hub_id, names)
        if _is_fair_esm(content := _read(weights)):
            return _from_fair_esm(weights, content)
        files = {weights}
    state = {}
    for path in sorted(files):
        for name, value in read_weights(path).items():
            # some releases of transformers use TensorFlow's names of LayerNorms
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            state[name.removeprefix("esm2.").removeprefix("esm.")] = value
    return state, read_json(config) if config and config.is_file() else {}


def _is_fair_esm(content: Mapping[Any, Any]) -> bool:
    model = content.get("model")
    return isinstance(model, Mapping) and any(str(name).startswith("encoder.sentence_encoder.") for name in model)


def _from_fair_esm(path: Path, content: Mapping[Any, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and settings under the names of Hugging Face from a file of fair-esm such as esm2_t12_35M_UR50D.pt."""
    state = {}
    for name, value in _tensors(path, content).items():
        for pattern, replacement in FAIR_ESM_NAMES:
            name = re.sub(pattern, replacement, name)
        state[name] = value
    configuration = content.get("cfg") or {}
    given: dict[str, Any] = {}
    for part in (content.get("args"), configuration.get("model") if isinstance(configuration, Mapping) else None):
        given |= vars(part) if isinstance(part, Namespace) else part or {}
    names = ("encoder_attention_heads", "attention_heads")
    wide = [value for name, value in state.items() if name.endswith(".intermediate.dense.weight")]  # of each layer
    require(wide, f"{path}: not weights of ESM2; give a file such as esm2_t12_35M_UR50D.pt")
    settings = {
        "hidden_size": wide[0].shape[1],
        "intermediate_size": wide[0].shape[0],
        "num_hidden_layers": len(wide),
        "position_embedding_type": "absolute" if "embed_positions.weight" in state else "rotary",
        "token_dropout": given.get("token_dropout", True),
    }
    heads = next((given[name] for name in names if name in given), None)
    return state, settings if heads is None else settings | {"num_attention_heads": heads}


def weights_digest(module: nn.Module, *more: object) -> str:
    """Hash of a network's weights and of `more`: 32 hexadecimal digits."""
    kind = getattr(module, "digest_as", type(module).__name__)
    digest = hashlib.sha256(repr((kind, more)).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def network_digest(network: nn.Module, heads: int, precision: Precision) -> str:
    """Hash of what the results of a network depend on: its weights and heads, and the precision of its forward pass.

    "auto" is the precision that `choose_precision` takes for the device of the network. The hash of fp32 is that
    without a precision.
    """
    chosen = choose_precision(precision, device_of(network))
    return weights_digest(network, heads, *(() if chosen == "fp32" else (chosen,)))
