"""A small training set of random features shared by the tests of training and evaluation."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prepare.dataset.loss_weights import write_loss_weights
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.dataset.table import write_table
from data_prepare.dataset.token_space import to_token_space
from data_prepare.properties import GROUP_OF_SOURCE, GROUPS, NMA_GROUPS, PROPERTIES, RESIDUE_COLUMNS
from model.config import TrainConfig
from model.training.command_line import parse_train_config as parse

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
        return replace(parse(self.arguments(run)), **changes)

    def arguments(self, run: Path, **changes: object) -> list[str]:
        """The same as a command line."""
        values = {"table": self.table, "store": self.store, "loss-weights": self.weights, "output": run}
        values |= {"device": "cpu", "model.hidden": 16, "model.layers": 2, "model.heads": 2, "model.feed-forward": 32}
        values |= {"updates": 8, "short-updates": 5, "learning-rate": 1e-2, "warmup-updates": 2}
        values |= {"short.length": 12, "short.micro-batch": 2, "short.accumulation": 2}
        values |= {"long.length": 24, "long.micro-batch": 2, "long.accumulation": 1}
        values |= {"log-every": 2, "checkpoint-every": 4}
        return [str(word) for name, value in (values | changes).items() for word in (f"--{name}", value)]


def write_small_data(folder: Path) -> SmallData:
    """Write table, store and weights."""
    random = np.random.default_rng(7)
    rows = []
    data = SmallData(folder / "table.csv", folder / "features.h5", folder / "loss_weights.csv")
    with StoreWriter(data.store) as store:
        for label in ("train", "test"):
            for source, number in SOURCES.items():
                for k in range(number if label == "train" else 1):
                    chains = random.integers(5, 20, 2 if source == "proteinflow_sabdab" else 1).tolist()
                    letters = ["".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), length)) for length in chains]
                    name = f"{source}_{label}_{k}"
                    store.add(name, *random_entry(random, chains, GROUP_OF_SOURCE[source]))
                    rows.append((name, "<eos><cls>".join(letters), source, label))
    write_table(data.table, pd.DataFrame(rows, columns=["name", "modify_seq", "source", "label"]))
    weights = {name: 0.5 + k / 10 for k, name in enumerate(PROPERTIES)}
    write_loss_weights(data.weights, dict.fromkeys(GROUPS, weights))
    return data


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    """Files that no test changes."""
    return write_small_data(tmp_path_factory.mktemp("small_data"))


@pytest.fixture
def own_small_data(small_data: SmallData, tmp_path: Path) -> SmallData:
    """The same with a store that a test may change."""
    return replace(small_data, store=Path(shutil.copy(small_data.store, tmp_path)))
