"""Small inputs of Dyna-1 tests: random sequences, tables of assignment codes, classifiers far from their start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from data_prepare.nmr.assignments import COLUMNS, write_assignments
from model.dyna1.classifier import Classifier, Dyna1Config
from model.dyna1.embeddings.source import ChainInput, Embedder


def random_sequence(random: np.random.Generator, length: int) -> str:
    return "".join(random.choice(list("ACDEFGHIKLMNQRSTVWY"), length))


def write_codes(path: Path, rows: list[tuple[str, str, str, str, str]]) -> Path:
    """Table of assignment codes from rows of entry, sequence, codes, source, cluster."""
    write_assignments(path, pd.DataFrame(rows, columns=list(COLUMNS)))
    return path


def randomise(module: nn.Module, spread: float = 0.4):
    """Weights at which no layer is trivial and attention is far from uniform."""
    torch.manual_seed(0)
    for name, value in module.named_parameters():
        nn.init.normal_(value, 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0, spread)
    return module.eval()


def random_classifier(**sizes) -> Classifier:
    return randomise(Classifier(Dyna1Config(**{"layers": 1, "heads": 1, "feed_forward": 16} | sizes)))


def logits_of_chain(model: Classifier, embedder: Embedder, chain: ChainInput) -> torch.Tensor:
    """Logits (L,) of one chain without the code under test around the classifier."""
    embedding = embedder.embed([chain.visible_sequence], [chain.backbone])[0]
    with torch.no_grad():
        return model(embedding[None], torch.zeros(1, len(embedding), dtype=torch.bool))[0]
