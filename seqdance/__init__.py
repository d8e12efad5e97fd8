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
    from data_prepare.dataset.store import FeatureStore
    from model.config import ModelConfig
    from model.evaluation.attention import attention_metrics
    from model.inference.attention import attention_maps
    from model.inference.embed import embed
    from model.inference.predict import predict_properties
    from model.mutations.score import all_single_mutants, combine_scores, property_changes, score_mutations
    from model.network.dance import DanceModel, load_esm2_encoder, load_model
    from model.network.tokenizer import tokenize

__all__ = [
    "DanceModel",
    "FeatureStore",
    "ModelConfig",
    "all_single_mutants",
    "attention_maps",
    "attention_metrics",
    "combine_scores",
    "embed",
    "load_esm2_encoder",
    "load_model",
    "predict_properties",
    "property_changes",
    "score_mutations",
    "tokenize",
]
__version__ = metadata.version("seqdance")

_MODULE_OF = {
    "DanceModel": "model.network.dance",
    "FeatureStore": "data_prepare.dataset.store",
    "ModelConfig": "model.config",
    "all_single_mutants": "model.mutations.score",
    "attention_maps": "model.inference.attention",
    "attention_metrics": "model.evaluation.attention",
    "combine_scores": "model.mutations.score",
    "embed": "model.inference.embed",
    "load_esm2_encoder": "model.network.dance",
    "load_model": "model.network.dance",
    "predict_properties": "model.inference.predict",
    "property_changes": "model.mutations.score",
    "score_mutations": "model.mutations.score",
    "tokenize": "model.network.tokenizer",
}


def check_packages() -> None:
    """See that `model` and `data_prepare` are those of this project.

    Raises
    ------
    ImportError
        If another package of that name comes first on the path.
    """
    for name in ("model", "data_prepare"):
        found = importlib.util.find_spec(name)
        places = list(found.submodule_search_locations or []) if found else []
        marker = {"model": "config.py", "data_prepare": "properties.py"}[name]
        if not any((Path(place) / marker).is_file() for place in places):
            where = places[0] if places else found.origin if found else "nowhere"
            raise ImportError(
                f"the package {name!r} found first on the path ({where}) is not that of SeqDance; "
                "run Python in another folder or rename yours"
            )


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'seqdance' has no attribute {name!r}")
    check_packages()
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
