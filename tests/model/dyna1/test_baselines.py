"""Naive baselines of Dyna-1: fitted, read, and their published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

from data_prepare.nmr.relaxdb import read_relaxdb
from model.dyna1.baselines import fit_baselines, read_baselines, read_dssp
from model.dyna1.data import AnnotatedProtein, annotated_proteins
from model.dyna1.evaluate import dataset_metrics


def protein(name: str, sequence: str, target: list[int] | None = None) -> AnnotatedProtein:
    return AnnotatedProtein(name, sequence, np.array(target or [0] * len(sequence), np.int8), "")


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
