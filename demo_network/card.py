"""What the demonstration network knows: measures on held-out conformations, and the text of its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from data_prepare.dataset.store import FeatureStore
from data_prepare.properties import (
    CONFORMATIONS,
    DSSP_STATES,
    MISSING,
    PROPERTIES,
    STRUCTURE_GROUPS,
    entry_pair_channel,
)
from data_prepare.properties import entry_residue_columns as columns_of
from model.evaluation.baselines import MeanBaselines, distance_class
from model.evaluation.metrics import pearson
from model.network.dance import DanceModel
from model.training.data import Entry, collate, group_sequences, load_entry
from model.training.processes import Process

STATES: Final = ("HGI", "EB", "ST ")  # helix, strand and others in letters of DSSP
OF_STATES: Final = np.array([[letter in state for state in STATES] for letter in DSSP_STATES], float)  # (8, 3)
NEAREST: Final = 6  # smallest |i-j| of a contact that counts
PREDICTORS: Final = ("network", "mean per amino acid and per \\|i-j\\|")
CLAIM: Final = 0.99  # of the loss of the better baseline: what the network is said to have learnt
Array = NDArray[Any]


class Measures(NamedTuple):
    """Of one protein and predictor."""

    three_states: float  # share of the residues in the right one of helix, strand and others
    sasa: float  # Pearson's correlation of the surface areas
    contacts: float  # share of true contacts among the L/5 strongest predictions


def measure(model: DanceModel, store: FeatureStore, table: pd.DataFrame) -> pd.DataFrame:
    """Means over the test entries of the conformations: predictors x `Measures`."""
    train, test = (group_sequences(table, store, label)[CONFORMATIONS] for label in ("train", "test"))
    baseline = MeanBaselines.fit(CONFORMATIONS, store, train, Process(torch.device("cpu")))
    rows: dict[str, list[Measures]] = {name: [] for name in PREDICTORS}
    for name, sequence in test:
        entry = load_entry(store, name, sequence, CONFORMATIONS)
        batch = collate(CONFORMATIONS, [entry])
        with torch.inference_mode():
            network = model(batch.input_ids, batch.attention_mask)
        for predictor, outputs in zip(PREDICTORS, (network, baseline.predict(batch)["sequence"]), strict=True):
            rows[predictor].append(measures_of(entry, {key: value[0].numpy() for key, value in outputs.items()}))
    return pd.DataFrame({name: np.nanmean(np.array(found), axis=0) for name, found in rows.items()}, Measures._fields).T


def measures_of(entry: Entry, outputs: Mapping[str, Array]) -> Measures:
    """Measures of one protein; `outputs` (T,), (T, bins) or (T, T) by property."""
    residue, pair = entry.residue.numpy(), entry.pair.numpy()
    valid = residue[:, columns_of("ss").start] != MISSING  # (T,)
    found, true = ((shares[valid] @ OF_STATES).argmax(1) for shares in (outputs["ss"], residue[:, columns_of("ss")]))
    areas = residue[valid, columns_of("sasa_mean").start]
    contact = pair[..., entry_pair_channel("vdw")]
    chain_distance = distance_class(entry.input_ids.numpy()) - 1  # -1 between chains
    rows, columns = np.nonzero(np.triu(valid[:, None] & valid & (chain_distance >= NEAREST)))
    strongest = np.argsort(-outputs["vdw"][rows, columns], kind="stable")[: max(1, int(valid.sum()) // 5)]
    precision = (contact[rows, columns][strongest] > 0).mean() if len(rows) else np.nan
    return Measures(float((found == true).mean()), pearson(outputs["sasa_mean"][valid], areas), float(precision))


def observed(store: FeatureStore, table: pd.DataFrame, shown: Mapping[str, str]) -> pd.DataFrame:
    """Protein, residue and DSSP state (empty if unresolved) of the conformations of some entries, name -> title."""
    rows = []
    for name, title in shown.items():
        entry = f"{name}_conformation"
        sequence = table.loc[table["name"] == entry, "modify_seq"].item()
        states = store.read_residue(entry)[1:-1, columns_of("ss")]  # (N, 8)
        letters = [DSSP_STATES[row.argmax()] if row[0] != MISSING else "" for row in states]
        rows += [(title, *pair) for pair in zip(sequence, letters, strict=True)]
    return pd.DataFrame(rows, columns=["protein", "residue", "dssp"])


def card(
    measures: pd.DataFrame, metrics: Mapping[str, Any], stability: pd.DataFrame, entries: pd.DataFrame, facts: str
) -> str:
    """The card in Markdown.

    `metrics` are those of `model/evaluate.py`; `stability` has a row per score and the columns median, low, high and
    proteins; `entries` are those of the manifest; `facts` are sizes and course of the training.
    """
    lines = [
        INTRODUCTION,
        claims(metrics),
        "",
        facts,
        "",
        "## Data",
        "",
        "| group | entries to train on | held out |",
        "|---|---|---|",
    ]
    for group, own in entries.groupby("group", sort=False):
        counts = own["label"].value_counts()
        lines.append(f"| {group} | {counts.get('train', 0)} | {counts.get('test', 0)} |")
    lines += ["", "`entries.csv` names them, with label and sequence cluster.", "", "## Held-out conformations", ""]
    lines += _table(
        ("", "three-state secondary structure", "SASA, Pearson", "contacts, precision at L/5"),
        [
            (name, *(f"{value:.3f}" for value in row))
            for name, row in zip(measures.index, measures.to_numpy(), strict=True)
        ],
    )
    lines += ["", CONTACTS, "", "## Loss of each property on held-out entries", "", LOSSES]
    for group, found in metrics.items():
        lines += ["", f"{group}, {found['entries']} entries", ""]
        losses = [found[name]["properties"] for name in ("model", "mean", "sequence")]
        rows = [
            (name, *(f"{values[name]:.4f}" for values in losses))
            for name in PROPERTIES
            if all(values.get(name) is not None for values in losses)
        ]
        rows.append(("weighted sum", *(f"{found[name]['loss']:.4f}" for name in ("model", "mean", "sequence"))))
        lines += _table(("property", "network", "mean", "mean per amino acid and per \\|i-j\\|"), rows)
    lines += ["", "## Stability of mutants", "", STABILITY, ""]
    lines += _table(
        ("score", "median Spearman", "95 % interval", "proteins"),
        [
            (str(name), f"{row.median:.2f}", f"{row.low:.2f} to {row.high:.2f}", f"{row.proteins:.0f}")
            for name, row in zip(stability.index, stability.itertuples(index=False), strict=True)
        ],
    )
    return "\n".join(lines) + "\n"


def claims(metrics: Mapping[str, Any]) -> str:
    """Which properties of structures the network predicts better than both baselines, and which not."""
    learnt: dict[bool, list[str]] = {True: [], False: []}
    for group in STRUCTURE_GROUPS:
        own = [metrics[group][name]["properties"] for name in ("model", "mean", "sequence")]
        for name in (name for name in PROPERTIES if all(values.get(name) is not None for values in own)):
            network, *baselines = (values[name] for values in own)
            learnt[network < CLAIM * min(baselines)].append(name)
    return (
        f"Better than both baselines on held-out structures: {', '.join(learnt[True])}. No better: "
        f"{', '.join(learnt[False])}. Of the simulations there are too few to say."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)]


INTRODUCTION = """# The demonstration network

A small SeqDance network that is part of the package. **Use it** to look at what predictions of dynamics look like, to
teach, and in tests. **Do not use it** for conclusions on proteins, least of all on mutations: see below how its score
of mutations compares with the loss of hydrophobicity alone. The published weights are the ones for research.
"""
CONTACTS = """Means over the held-out proteins. Three states: H, G and I are helix, E and B strand, the rest coil. A
contact is a pair of residues with a van der Waals contact, at least 6 residues apart in the chain."""
LOSSES = """Root mean square error in each protein, mean over proteins, as in training. The baselines are means over
the training entries: of the property, and of the property for each amino acid (residues) or distance along the chain
(pairs)."""
STABILITY = """Spearman's correlation with the measured loss of stability, S2648, proteins with at least 10 mutations;
a good score is positive. Some of these proteins are in the training set, as structures."""
