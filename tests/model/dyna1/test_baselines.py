"""Naive baselines of Dyna-1: fitted, read, and their published numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from refusals import refused

from data_prepare.nmr.relaxdb import read_relaxdb
from model.dyna1.baselines import fit_baselines, read_baselines, read_dssp, read_properties, sampled
from model.dyna1.data import AnnotatedProtein, annotated_proteins
from model.dyna1.evaluate import baseline_scores, dataset_metrics


def protein(name: str, sequence: str, target: list[int] | None = None) -> AnnotatedProtein:
    return AnnotatedProtein(name, sequence, np.array(target or [0] * len(sequence), np.int8), "")


EXPECTED = {  # AUROC, AUPRC minus positive rate
    "amino acid": [0.532, 0.051],
    "DSSP": [0.543, 0.025],
    "amino acid + DSSP": [0.559, 0.07],
    "amino acid, sampled": [0.501, 0.01],
    "DSSP, sampled": [0.499, 0.009],
    "amino acid + DSSP, sampled": [0.5, 0.008],
    "high conservation": [0.527, 0.054],
    "low pLDDT": [0.583, 0.079],
    "low SASA": [0.506, 0.007],
}
PROTEINS = [protein("a", "ACD"), protein("5", "AC")]


def test_rates_are_the_fractions_of_positives() -> None:
    a, b = protein("a", "AAGGA", [1, 0, 1, -1, 0]), protein("b", "GA", [0, 1])
    acid, structure, both = fit_baselines([a, b], {"a": np.array([0, 0, 1, 1, 2])})
    assert [baseline.name for baseline in (acid, structure, both)] == ["amino acid", "DSSP", "amino acid + DSSP"]
    assert acid.scores(protein("x", "GAW"), {}).tolist() == [1 / 2, 2 / 4, 3 / 6]
    new, classes = protein("n", "AGAG"), {"n": np.array([0, 1, 2, 2])}
    assert structure.scores(new, classes).tolist() == [1 / 2, 1, 0, 0]  # of protein a alone
    assert both.scores(new, classes).tolist() == [1 / 2, 1, 0, 2 / 4]  # no G in a helix: the rate of G
    assert both.scores(protein("w", "WA"), {"w": np.array([0, -1])}).tolist() == [2 / 4, 2 / 4]
    assert [baseline.name for baseline in fit_baselines([a, b], {})] == ["amino acid"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", "entry_ID,sequence,dssp\na,ACD,?H-\n5,AC,\nelse,A,CC\n", {"a": [-1, 2, 1]}),
        ("t.json", '{"entry_ID": {"0": "a", "1": 5}, "dssp": {"0": "GBT", "1": null}}', {"a": [2, 0, 1]}),
        ("t.json", '{"entry_ID": {"0": 5, "1": "b"}, "dssp": {"0": "GB", "1": NaN}}', {"5": [2, 0]}),
        ("t.json", '{"entry_ID": {"0": "a"}}', {}),
        ("t.json", '{"entry_ID": {"0": "a", "1": 5}, "DSSP": {"0": "GBT", "1": null}}', {"a": [2, 0, 1]}),
        ("dssp.csv", "PDB,DSSP\na,EEE\na,HHC\na,H\n", {"a": [2, 2, 1]}),  # the last one of its length
    ],
)
def test_dssp_comes_from_a_column_of_the_table(tmp_path, name: str, content: str, expected: dict) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert {entry: classes.tolist() for entry, classes in read_dssp(path, PROTEINS).items()} == expected


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("t.csv", "entry_ID,dssp\na,EH\n", ["entry a", "3"]),
        ("t.csv", "entry_ID,dssp\na,EHx\n", ["entry a", "EHx"]),
        ("t.json", '{"entry_ID": {"0": "a"}, "dssp": {"0": ["H", "C", "C"]}}', ["entry a"]),
        ("t.json", '{"entry_ID": {"0": "a"}, "dssp": {"1": "GBT"}}', ["entry_ID"]),
        ("t.json", '{"entry_ID": ', []),
    ],
)
def test_dssp_that_cannot_be_used(tmp_path, name: str, content: str, named: list[str]) -> None:
    (tmp_path / name).write_text(content)
    refused(lambda: read_dssp(tmp_path / name, PROTEINS), tmp_path / name, *named)


def test_properties_of_residues(tmp_path) -> None:
    columns = {"pLDDT": {"0": [50, None, 90], "1": [None, None]}, "cons_BLOSUM62": {"0": [1, 2, 0], "1": [0.5, 0]}}
    (tmp_path / "r.json").write_text(json.dumps({"entry_ID": {"0": "a", "1": 5}, **columns}))
    found = read_properties(tmp_path / "r.json", [*PROTEINS, protein("a_600MHz", "ACD")])
    found = {name: {entry: values.tolist() for entry, values in rows.items()} for name, rows in found.items()}
    low = [-50, -70, -90]
    assert found == {
        "high conservation": {"a": [1, 2, 0], "5": [0.5, 0], "a_600MHz": [1, 2, 0]},
        "low pLDDT": {"a": low, "5": [0, 0], "a_600MHz": low},
    }
    assert read_properties(tmp_path, PROTEINS) == read_properties(tmp_path / "absent.csv", PROTEINS) == {}
    for wrong in ([1, 2], None, "abc"):
        columns["pLDDT"]["0"] = wrong
        (tmp_path / "r.json").write_text(json.dumps({"entry_ID": {"0": "a", "1": 5}, **columns}))
        refused(lambda: read_properties(tmp_path / "r.json", PROTEINS), tmp_path / "r.json", "entry a: pLDDT")


def test_sampled_baselines_have_the_frequency_of_their_probability() -> None:
    p = np.repeat([0.0, 0.2, 1.0], 4000)
    found = sampled({"a": p}, 0)["a"]
    assert set(found) == {0.0, 1.0}
    assert found.reshape(3, 4000).mean(1) == pytest.approx([0, 0.2, 1], abs=0.02)
    assert np.array_equal(found, sampled({"a": p}, 0)["a"])


@pytest.mark.slow
def test_baselines_on_relaxdb_with_other_metrics(shared) -> None:
    """The numbers in benchmarks/README.md; published: naive baselines about 0.50, as sampled ones."""
    folder = shared / "golden/relaxdb"
    path = folder / "as_downloaded/RelaxDB_with_other_metrics_22jan2025.json.zip"
    proteins = annotated_proteins(read_relaxdb(path), "RelaxDB")
    dssp = read_dssp(path, proteins)
    assert dssp.keys() == read_dssp(folder / "as_downloaded/dssp.csv.gz", proteins).keys()
    naive = baseline_scores(read_baselines(folder), proteins, dssp, path)
    scores = naive | {f"{name}, sampled": sampled(values, 0) for name, values in naive.items()}
    scores |= read_properties(path, proteins)
    targets = {protein.name: protein.target for protein in proteins}
    found = {}
    for name, values in scores.items():
        numbers = dataset_metrics(targets, values, samples=100)
        assert numbers["proteins"] == 129
        found[name] = [round(numbers[key]["mean"], 3) for key in ("auroc", "normalised_auprc")]
    assert found == EXPECTED


def test_published_probabilities_are_read(shared) -> None:
    acid, structure, both = read_baselines(shared / "golden/relaxdb")
    new, classes = protein("a", "LHX"), {"a": np.array([1, 1, 0])}
    scores = acid.scores(new, {})
    assert scores[:2].tolist() == [0.03468192, 0.11276468]
    assert 0.03 < scores[2] < 0.06  # X is not in the file
    assert structure.scores(new, classes).tolist() == [0.05952486, 0.05952486, 0.02963248]
    assert both.scores(new, classes)[:2].tolist() == [0.042509615, 0.15406092]


@pytest.mark.parametrize("rows", ["4,one", "inf,0.1", "4,1.5", ""])
def test_probabilities_that_cannot_be_used(tmp_path, rows: str) -> None:
    refused(lambda: read_baselines(tmp_path), tmp_path, "probs_aa.csv")
    (tmp_path / "probs_aa.csv").write_text(f"token,target\n{rows}\n")
    refused(lambda: read_baselines(tmp_path), tmp_path / "probs_aa.csv")


@pytest.mark.parametrize(
    ("options", "expected"), [({}, 0.5321), ({"rex_only": True}, 0.4939), ({"missing_only": True}, 0.6437)]
)
def test_amino_acids_predict_little_on_relaxdb(shared, options, expected: float) -> None:
    """Published: naive baselines have an AUROC of about 0.50."""
    folder = shared / "golden/relaxdb"
    proteins = annotated_proteins(read_relaxdb(folder / "RelaxDB_133x_22jan2025.json"), "RelaxDB", **options)
    acid = read_baselines(folder)[0]
    scores = {protein.name: acid.scores(protein, {}) for protein in proteins}
    found = dataset_metrics({protein.name: protein.target for protein in proteins}, scores, samples=100)
    if not options:
        assert (found["proteins"], found["evaluated"], found["positives"]) == (129, 13332, 1657)
        assert set(found["left_out"]) == {"5839", "6470", "ORC2WH", "PLEXINB1"}
    assert found["auroc"]["mean"] == pytest.approx(expected, abs=1e-4)
