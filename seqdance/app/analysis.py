"""The results for one protein, and the calls that compute them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.errors import InputWarning, require
from data_prepare.structure.readers import TOPOLOGY_SUFFIXES, TRAJECTORY_SUFFIXES, read_topology
from data_prepare.structure.sequence import CHAIN_LINKER
from model.dyna1.embeddings.source import ChainInput, EmbeddingSource
from model.evaluation.compare import Comparison, compare_measurements
from model.evaluation.measurement import of_trajectories, predicted
from model.inference.batches import residue_rows
from model.inference.predict import predict_properties, property_names
from model.inference.prediction_files import Prediction
from model.mutations.score import changes_of, mean_damage, score_table
from model.mutations.substitution import Mutants
from model.network.dance import DanceModel, load_model
from model.network.weights import network_digest
from seqdance.app.given import Choice, File, Limits
from seqdance.app.jobs import Job

MOST_LISTED: Final = 20_000  # mutants of a list


@dataclass(frozen=True)
class Networks:
    """What computes: loaded once, used by everyone."""

    model: DanceModel
    classifier: Any = None  # of Dyna-1
    source: EmbeddingSource | None = None

    @cached_property
    def label(self) -> str:
        """Name and digest of the network, for figures and tables; the digest reads all weights."""
        return self.model.label

    @property
    def dyna1_label(self) -> str:
        """Name of Dyna-1 and of what it reads, for figures and tables of p_exchange."""
        return f"Dyna-1 on {self.source.fingerprint}" if self.source else ""


def load_networks(model: str, dyna1: str | None, embedder: str | None, device: str) -> Networks:
    """Load a network, and Dyna-1 with its embedder if its weights are given."""
    network = load_model(model, device)
    if dyna1 is None:
        require(embedder is None, f"--embedder {embedder} requires --dyna1")
        return Networks(network)
    from model.dyna1.predict import load_with_embedder

    return Networks(network, *load_with_embedder(dyna1, embedder, device))


@dataclass
class Analysis:
    """One protein of one user, and its results as they appear."""

    choice: Choice
    names: tuple[str, ...]  # of the other proteins or chains of the input
    notes: tuple[str, ...] = ()
    job: Job | None = None
    version: int = 0  # grows with each result
    prediction: Prediction | None = None
    mutants: Mutants | None = None
    scores: pd.DataFrame | None = None  # a row per mutant
    damage: NDArray[np.float64] | None = None  # (N,) mean over the substitutions of each residue, if all are scored
    exchange: pd.DataFrame | None = None  # a row per residue
    comparison: Comparison | None = None
    _changes: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def sequence(self) -> str:
        """Chains are joined by `<eos><cls>`."""
        return self.choice.protein.sequence

    @property
    def nbytes(self) -> int:
        """Approximate memory, also of a prediction to come: thirteen maps, and twenty of a comparison."""
        compared = len(self.comparison.first.residue) if self.comparison else 0
        table = 0 if self.scores is None else int(self.scores.memory_usage(deep=True).sum())
        return 52 * len(self.choice.letters) ** 2 + 92 * compared**2 + table + self._changes.nbytes

    def residue_values(self) -> dict[str, NDArray[Any]]:
        """Values (N,) that can colour a structure, by name."""
        found: dict[str, NDArray[Any]] = {}
        if self.prediction is not None:
            found |= {"RMSF": self.prediction.properties["rmsf_nor"], "SASA": self.prediction.properties["sasa_mean"]}
        if self.damage is not None:
            found["mean damage"] = self.damage
        if self.exchange is not None:
            found["p_exchange"] = self.exchange["p_exchange"].to_numpy()
        return found

    def set(self, **results: Any) -> None:
        """Keep results."""
        for name, value in results.items():
            setattr(self, name, value)
        self.version += 1


def predict(networks: Networks, analysis: Analysis, job: Job) -> Callable[[], None]:
    """The 23 properties."""
    protein, model = analysis.choice.protein, networks.model
    properties = predict_properties(model, protein.sequence)
    chain = residue_rows(protein.sequence)[1]
    digest = network_digest(model, model.config.heads, "auto")
    found = Prediction(protein.name, protein.sequence, networks.label, chain, properties, digest)
    return partial(analysis.set, prediction=found)


def single_mutants(choice: Choice) -> list[str]:
    """Labels of all single mutants, in the numbering of the structure if there is one."""
    return [choice.wild_type.label(changes) for changes in choice.wild_type.single_changes()]


def labels_of_list(choice: Choice, text: str) -> list[str]:
    """Labels of a list such as `A12G,K5R:L7V`, in the order of the sequence; InputError if one does not fit."""
    words = [word for word in text.replace("\n", ",").split(",") if word.strip()]
    most = f"{len(words):,} mutants, at most {MOST_LISTED:,} at once; use seqdance score for so many"
    require(len(words) <= MOST_LISTED, most)
    return [choice.wild_type.label(dict(sorted(choice.wild_type.read(word).items()))) for word in words]


def new_mutants(analysis: Analysis, text: str) -> list[str]:
    """Labels of a list, or of all single mutants if it is empty, that have no score yet."""
    wanted = labels_of_list(analysis.choice, text) if text.strip() else single_mutants(analysis.choice)
    require(wanted, "no mutants; give a list such as A12G,K5R:L7V")
    scored = set(analysis.mutants.labels) if analysis.mutants else set()
    return [label for label in dict.fromkeys(wanted) if label not in scored]


def score(networks: Networks, analysis: Analysis, labels: list[str], job: Job) -> Callable[[], None]:
    """Score more mutants; scores and damage then rank all mutants of this protein among each other."""
    protein, model = analysis.choice.protein, networks.model
    known = analysis.mutants.labels if analysis.mutants else []
    changes = changes_of(model, Mutants(protein, labels, of_structure=True), done=job.advance)
    both = np.vstack([analysis._changes, changes]) if len(known) else changes
    mutants = Mutants(protein, [*known, *labels], of_structure=True)
    table = score_table(mutants, both, model=networks.label)
    every = set(single_mutants(analysis.choice)) <= set(mutants.labels)
    damage = mean_damage(table, len(analysis.choice.letters)) if every else None
    return partial(analysis.set, mutants=mutants, scores=table, damage=damage, _changes=both)


def changes_of_mutant(analysis: Analysis, label: str) -> pd.DataFrame | None:
    """Relative change of each property of a mutant, and the quartiles over all scored mutants; None without a score."""
    names = list(property_names("all"))
    if analysis.scores is None or label not in set(analysis.scores["mutant"]):
        return None
    every = analysis.scores[names]
    quartiles = every.quantile([0.25, 0.5, 0.75])
    row = every[analysis.scores["mutant"] == label].iloc[0]
    low, median, high = quartiles.to_numpy()
    return pd.DataFrame({"property": names, "change": row.to_numpy(), "low": low, "median": median, "high": high})


def exchange(networks: Networks, analysis: Analysis, job: Job) -> Callable[[], None]:
    """p_exchange of each residue, chain by chain."""
    from model.dyna1.embeddings.chains import read_structure_chain
    from model.dyna1.predict import exchange_table, predict_exchange

    source = networks.source
    require(source, "no weights of Dyna-1; start seqdance app with --dyna1 WEIGHTS")
    assert source is not None
    sequences = analysis.sequence.split(CHAIN_LINKER)
    chains = [ChainInput(analysis.choice.protein.name, sequence) for sequence in sequences]
    structure = analysis.choice.structure
    if structure and source.reads_structure:
        ids = list(dict.fromkeys(residue.chain for residue in analysis.choice.protein.residue_ids))
        with structure.on_disk() as path:
            chains = [read_structure_chain(path, chain) for chain in ids]
        require([chain.sequence for chain in chains] == sequences, "chains in pieces; choose one chain")
    tables = []
    for chain in chains:
        tables.append(exchange_table(chain, predict_exchange(networks.classifier, source, chain)))
        job.advance(1)
    table = pd.concat(tables, ignore_index=True)
    table.insert(1, "chain", [residue.chain for residue in analysis.choice.protein.residue_ids])
    return partial(analysis.set, exchange=table)


def compare(
    networks: Networks, limits: Limits, analysis: Analysis, topology: File, trajectory: File | None, job: Job
) -> Callable[[], None]:
    """A trajectory, or the models of a structure file, beside the prediction for its own sequence.

    InputError if it is too long, InputWarning if it is not the protein of the analysis.
    """
    known = topology.suffix in TOPOLOGY_SUFFIXES
    require(known, f"{topology.name}: not a topology; give one of {', '.join(TOPOLOGY_SUFFIXES)}")
    if trajectory is not None:
        known = trajectory.suffix in TRAJECTORY_SUFFIXES
        require(known, f"{trajectory.name}: not a trajectory; give one of {', '.join(TRAJECTORY_SUFFIXES)}")
    with ExitStack() as files:
        path = files.enter_context(topology.on_disk())
        frames: Path = files.enter_context(trajectory.on_disk()) if trajectory else path
        sequences, _ = read_topology(path).traced.full_sequences()
        limits.require(sum(map(len, sequences)), topology.name)
        measured = of_trajectories(path, [frames])
    job.advance()
    measured = replace(measured, name=(trajectory or topology).stem)
    found = compare_measurements(measured, predicted(networks.model, measured, f"prediction by {networks.model.name}"))
    if CHAIN_LINKER.join(measured.sequences) != analysis.sequence:
        other = f"the simulation is of another protein, {measured.name}; the prediction beside it is for that one"
        warnings.warn(other, InputWarning, stacklevel=2)
    kept = replace(found, first=replace(found.first, parts=()))  # the halves have the size of the whole
    return partial(analysis.set, comparison=kept)
