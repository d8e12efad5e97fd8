"""A small training set of random features that the tests of dataset, training and evaluation share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prepare.dataset.loss_weights import write_loss_weights
from data_prepare.dataset.store import StoreWriter
from data_prepare.dataset.table import write_table
from data_prepare.dataset.token_space import to_token_space
from data_prepare.properties import GROUP_OF_SOURCE, GROUPS, NMA_GROUPS, PROPERTIES, RESIDUE_COLUMNS
from model.config import ModelConfig, Stage, TrainConfig

SOURCES = {"ATLAS": 3, "GPCRmd": 1, "PED": 1, "mdCATH": 3, "IDRome": 5, "proteinflow_pdb": 4, "proteinflow_sabdab": 2}


def random_entry(random: np.random.Generator, chains: list[int], group: str) -> tuple[np.ndarray, np.ndarray]:
    """Residue and pair features in token space, RMSF raw, one residue unresolved."""
    n = sum(chains)
    correlation = random.uniform(-1, 1, (n, n, 3))
    if group in NMA_GROUPS:
        residue, pair = random.random((n, 3)), correlation
    else:
        residue = random.random((n, 47))
        for first, width in RESIDUE_COLUMNS.values():
            if width > 1 and first < 47:
                residue[:, first : first + width] /= residue[:, first : first + width].sum(1, keepdims=True)
        residue[:, 2] *= 3.0  # nm
        pair = np.concatenate([random.random((n, n, 9)) ** 4, correlation[..., :1]], axis=-1)
    hole = random.integers(n)
    residue[hole], pair[hole], pair[:, hole] = -1, -1, -1
    return to_token_space(residue, pair, chains)


@dataclass(frozen=True)
class SmallData:
    """Files of a training set."""

    table: Path
    store: Path
    weights: Path

    def config(self, run: Path, **changes: object) -> TrainConfig:
        """Training of a tiny network for 8 updates, the last 3 at twice the length."""
        values: dict = {
            "table": self.table,
            "store": self.store,
            "loss_weights": self.weights,
            "output": run,
            "model": ModelConfig(hidden=16, layers=2, heads=2, feed_forward=32),
            "updates": 8,
            "short_updates": 5,
            "short": Stage(length=12, micro_batch=2, accumulation=2),
            "long": Stage(length=24, micro_batch=2, accumulation=1),
            "learning_rate": 1e-2,
            "warmup_updates": 2,
            "log_every": 2,
            "checkpoint_every": 4,
            "device": "cpu",
        }
        return TrainConfig(**(values | changes))

    def arguments(self, run: Path, **changes: object) -> list[str]:
        """The same as a command line."""
        words = ["--table", self.table, "--store", self.store, "--loss-weights", self.weights, "--output", run]
        values = {
            "model.hidden": 16,
            "model.layers": 2,
            "model.heads": 2,
            "model.feed-forward": 32,
            "updates": 8,
            "short-updates": 5,
            "short.length": 12,
            "short.micro-batch": 2,
            "short.accumulation": 2,
            "long.length": 24,
            "long.micro-batch": 2,
            "long.accumulation": 1,
            "learning-rate": 1e-2,
            "warmup-updates": 2,
            "log-every": 2,
            "checkpoint-every": 4,
            "device": "cpu",
        }
        for name, value in (values | changes).items():
            words += [f"--{name}", value]
        return [str(word) for word in words]


def write_small_data(folder: Path) -> SmallData:
    """Write table, store and weights."""
    random = np.random.default_rng(7)
    rows = []
    data = SmallData(folder / "table.csv", folder / "features.h5", folder / "loss_weights.csv")
    with StoreWriter(data.store) as store:
        for label in ("train", "test"):
            for source, number in SOURCES.items():
                for k in range(number if label == "train" else 1):
                    chains = [
                        int(length) for length in random.integers(5, 20, 2 if source == "proteinflow_sabdab" else 1)
                    ]
                    letters = ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), length)) for length in chains]
                    name = f"{source}_{label}_{k}"
                    store.add(name, *random_entry(random, chains, GROUP_OF_SOURCE[source]))
                    rows.append((name, "<eos><cls>".join(letters), source, label))
    write_table(data.table, pd.DataFrame(rows, columns=["name", "modify_seq", "source", "label"]))
    write_loss_weights(
        data.weights, {group: {name: 0.5 + k / 10 for k, name in enumerate(PROPERTIES)} for group in GROUPS}
    )
    return data


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    """Files that no test changes."""
    return write_small_data(tmp_path_factory.mktemp("small_data"))


@pytest.fixture
def own_small_data(tmp_path: Path) -> SmallData:
    """Files that a test may change."""
    return write_small_data(tmp_path)
