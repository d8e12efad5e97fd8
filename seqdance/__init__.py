"""SeqDance: protein dynamics from sequence.

The public interface, loaded on first use:

>>> from seqdance import load_model, score_mutations
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prepare.dataset.store import FeatureStore as FeatureStore
    from model.config import ModelConfig as ModelConfig
    from model.evaluation.attention import attention_metrics as attention_metrics
    from model.evaluation.compare import compare as compare
    from model.inference.attention import attention_maps as attention_maps
    from model.inference.embed import embed as embed
    from model.inference.predict import predict_properties as predict_properties
    from model.mutations.score import combine_scores as combine_scores
    from model.mutations.score import property_changes as property_changes
    from model.mutations.score import score_mutations as score_mutations
    from model.mutations.substitution import all_single_mutants as all_single_mutants
    from model.network.dance import DanceModel as DanceModel
    from model.network.dance import load_esm2_encoder as load_esm2_encoder
    from model.network.dance import load_model as load_model
    from model.network.published import ESMwrap as ESMwrap
    from model.network.tokenizer import tokenize as tokenize

_NAMES = {
    "data_prepare.dataset.store": ("FeatureStore",),
    "model.config": ("ModelConfig",),
    "model.evaluation.attention": ("attention_metrics",),
    "model.evaluation.compare": ("compare",),
    "model.inference.attention": ("attention_maps",),
    "model.inference.embed": ("embed",),
    "model.inference.predict": ("predict_properties",),
    "model.mutations.score": ("combine_scores", "property_changes", "score_mutations"),
    "model.mutations.substitution": ("all_single_mutants",),
    "model.network.dance": ("DanceModel", "load_esm2_encoder", "load_model"),
    "model.network.published": ("ESMwrap",),
    "model.network.tokenizer": ("tokenize",),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF)
__version__ = metadata.version("seqdance")


def check_packages() -> None:
    """Raise ImportError if another package `model` or `data_prepare` comes first on the path."""
    for name, marker in (("model", "config.py"), ("data_prepare", "properties.py")):
        found = importlib.util.find_spec(name)
        folders = list(found.submodule_search_locations or []) if found else []
        if not any((Path(folder) / marker).is_file() for folder in folders):
            where = folders[0] if folders else found.origin if found else "nowhere"
            raise ImportError(
                f"the package {name!r} found first on the path ({where}) is not part of SeqDance; "
                "run Python in another folder or rename yours"
            )


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'seqdance' has no attribute {name!r}")
    check_packages()
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
