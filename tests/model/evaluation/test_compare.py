"""Two measurements of a protein: the numbers by SciPy and scikit-learn, residues by alignment, halves as a ceiling."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from refusals import refused
from sklearn.metrics import average_precision_score
from stores import real_entry, write_store

import seqdance
from data_prepare.errors import InputWarning
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.properties import INTERACTIONS, MD_PROPERTIES
from model.evaluation.compare import compare_measurements, match_residues
from model.evaluation.measurement import Measurement, of_prediction, predicted, read_measurement
from model.inference.predict import predict_properties
from model.inference.prediction_files import Prediction

SEQUENCE = "MKTAYIAKQRGSWLEEVNDPCFHMKTGGAYLE"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Entries of the same 32 residues, and their table."""
    path = write_store(tmp_path / "f.h5", a=real_entry(32, seed=1), b=real_entry(32, seed=2), nma=real_entry(32, "nma"))
    rows = [(name, SEQUENCE, "x", "ATLAS_GPCRmd_PED_mdCATH", "") for name in ("a", "b", "nma")]
    columns = ["name", "modify_seq", "source", "group", "label"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "table.csv", index=False)
    return path


def side(sequences: tuple[str, ...], residue: list[int] | None = None, seed: int = 0) -> Measurement:
    """A measurement of RMSF, which is the index of the residue."""
    whole = "".join(sequences)
    rows = np.arange(len(whole)) if residue is None else np.array(residue)
    chain = np.repeat(np.arange(len(sequences), dtype=np.int32), [len(each) for each in sequences])[rows]
    names = tuple("ABC"[k] for k in chain)
    values = {"rmsf": rows.astype(np.float32)}
    return Measurement("x", sequences, rows, chain, names, tuple(map(str, rows + 1)), values)


def entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log2(np.where(p > 0, p, 1)), axis=1)


def test_numbers_of_a_table(store: Path) -> None:
    """Against the arrays as they are stored: cube roots, one direction, RMSF in nm."""
    from data_prepare.dataset.store import FeatureStore

    table = seqdance.compare(f"{store}:a", f"{store}:b").set_index("property")
    arrays = [
        [residue[1:-1].astype(float), pair[1:-1, 1:-1].astype(float)]
        for residue, pair in (FeatureStore(store).read(name) for name in "ab")
    ]
    pairs = [(i, j) for i in range(32) for j in range(32) if j - i >= 3]
    i, j = np.transpose(pairs)

    def agree(name: str, a: np.ndarray, b: np.ndarray) -> None:
        row = table.loc[name]
        assert row["n"] == len(a)
        assert row["pearson"] == pytest.approx(scipy.stats.pearsonr(a, b)[0], abs=1e-5)
        assert row["spearman"] == pytest.approx(scipy.stats.spearmanr(a, b)[0], abs=1e-5)
        assert row["rmse"] == pytest.approx(np.sqrt(np.mean((a - b) ** 2)), rel=1e-4)

    agree("sasa_std", *(residue[:, 1] for residue, _ in arrays))
    agree("rmsf", *(residue[:, 2] for residue, _ in arrays))
    agree("rmsf_nor", *(residue[:, 2] / residue[:, 2].max() for residue, _ in arrays))
    agree("corr", *(pair[i, j, 9] for _, pair in arrays))
    of_type = [[np.round(pair[i, j, k] ** 3 + pair[j, i, k] ** 3, 5) for k in range(9)] for _, pair in arrays]
    agree("sb", of_type[0][INTERACTIONS.index("sb")], of_type[1][INTERACTIONS.index("sb")])
    contacts = [np.round(np.sum(each, axis=0), 5) for each in of_type]
    agree("contacts", *contacts)
    often = [each >= 0.5 for each in contacts]
    row = table.loc["contacts"]
    assert (row["frequent_a"], row["frequent_b"]) == tuple(each.sum() for each in often)
    assert row["overlap"] == pytest.approx((often[0] & often[1]).sum() / (often[0] | often[1]).sum())
    assert row["average_precision"] == pytest.approx(average_precision_score(often[0], contacts[1]), abs=1e-6)

    p, q = (residue[:, 3:11] for residue, _ in arrays)
    bits = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    assert table.loc["ss", "jensen_shannon"] == pytest.approx(bits.mean(), abs=1e-5)
    assert table.loc["phi", "n"] == 31  # the first residue has none
    assert "within_a_pearson" not in table


def test_a_side_agrees_with_itself_and_kinds_differ(store: Path) -> None:
    table = seqdance.compare(f"{store}:a", f"{store}:a", separation=1).set_index("property")
    assert table.loc["contacts", "n"] == 32 * 31 / 2
    assert (table[["pearson", "spearman", "average_precision", "overlap"]].stack().dropna() > 1 - 1e-9).all()
    assert table["rmse"].max() == 0
    assert table["jensen_shannon"].max() == pytest.approx(0, abs=1e-12)
    refused(lambda: seqdance.compare(f"{store}:a", f"{store}:nma"), "a and nma", "in common")
    for source, named in ((f"{store}:c", "a, b, nma"), (str(store), "NAME"), ("nix.pdb:x.xtc", "nix.pdb")):
        refused(lambda source=source: seqdance.compare(f"{store}:a", source), source.split(":")[0], named)


TAGGED = "GSHM" + SEQUENCE + "LEHHHHHH"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (side((SEQUENCE,)), side((TAGGED,)), [(k, k + 4) for k in range(32)]),
        (side((TAGGED,)), side((SEQUENCE[2:],)), [(k + 6, k) for k in range(30)]),
        (side((SEQUENCE,), [0, 1, 2, 20, 21]), side((TAGGED,), [4, 6, 24, 25, 43]), [(0, 0), (2, 1), (3, 2), (4, 3)]),
        (side((SEQUENCE,)), side((SEQUENCE.replace("W", "A"),)), [(k, k) for k in range(32)]),
        (
            side((SEQUENCE, "PPPWWWYYY")),
            side(("PPPWWWYYY", SEQUENCE)),
            [*((k, k + 9) for k in range(32)), *((k + 32, k) for k in range(9))],
        ),
        (side((SEQUENCE, SEQUENCE)), side((SEQUENCE, SEQUENCE)), [(k, k) for k in range(64)]),
        (side((SEQUENCE, SEQUENCE)), side((SEQUENCE,)), [(k, k) for k in range(32)]),
    ],
    ids=["tags", "truncated", "unresolved", "mutant", "chains in another order", "homodimer", "monomer"],
)
def test_residues_are_matched_by_alignment(first: Measurement, second: Measurement, expected: list) -> None:
    assert list(zip(*(rows.tolist() for rows in match_residues(first, second)), strict=True)) == expected


def test_other_proteins_and_unknown_sequences() -> None:
    one, other = side((SEQUENCE,)), side(("MQIFVKTLTGKTITLEVEPSDTIENVKAKIQD",))
    refused(lambda: match_residues(one, other), "x and x", "one protein")
    with pytest.warns(InputWarning, match="in their order"):
        assert len(match_residues(one, replace(other, sequences=()))[0]) == 32
    refused(lambda: match_residues(one, replace(side((TAGGED,)), sequences=())), "32 and 44")


def test_missing_properties_are_named_and_left_out(store: Path, tmp_path: Path) -> None:
    a, b = (read_measurement(f"{store}:{name}") for name in "ab")
    lacking = {name: values for name, values in b.properties.items() if name not in ("hbbb", "chi")}
    with pytest.warns(InputWarning, match="lacks them: chi, hbbb$"):
        found = compare_measurements(a, replace(b, properties=lacking, missing=("chi", "hbbb")))
    assert not {"chi", "hbbb"} & set(found.table["property"])
    assert not [column for column in found.residues if column.startswith("chi")]
    whole = compare_measurements(a, b).table.set_index("property").loc["contacts"]
    without = found.table.set_index("property").loc["contacts"]
    assert without["rmse"] != whole["rmse"]  # contacts are the sum of what both have


def test_predictions(tiny_model, store: Path) -> None:
    """Cube roots become contacts per frame; angles that do not exist are not compared."""
    sequence = "MGAK<eos><cls>WVLA"
    values = predict_properties(tiny_model, sequence)
    found = of_prediction(Prediction("p", sequence, "", np.repeat([0, 1], 4).astype(np.int32), values))
    np.testing.assert_allclose(found.properties["vdw"], values["vdw"].astype(float) ** 3, rtol=1e-5)
    absent = {name: np.flatnonzero(np.isnan(found.properties[name][:, 0])).tolist() for name in ("chi", "phi", "psi")}
    assert absent == {"chi": [1, 2, 7], "phi": [0, 4], "psi": [3, 7]}
    assert (found.numbers, found.chain_ids) == (("1", "2", "3", "4") * 2, ("A",) * 4 + ("B",) * 4)
    a = read_measurement(f"{store}:a")
    table = compare_measurements(a, predicted(tiny_model, a, "tiny")).table
    assert set(table["property"]) == {*MD_PROPERTIES, "contacts"}  # no RMSF in nm


@pytest.fixture(scope="module")
def halves(examples: Path, tmp_path_factory) -> tuple[Path, Path]:
    """A short trajectory and its topology."""
    folder = tmp_path_factory.mktemp("helix")
    return tuple(Path(shutil.copy(examples / "trajectories" / f"helix_aeaaak.{end}", folder)) for end in ("pdb", "xtc"))


def test_halves_and_replicas_are_the_ceiling(halves: tuple[Path, Path], tmp_path: Path) -> None:
    from data_prepare.molecular_dynamics.frames.trajectory import count_frames

    pdb, xtc = halves
    frames = count_frames(xtc)
    whole = read_measurement(f"{pdb}:{xtc}", FrameRange(end=9))
    first, second = (read_measurement(f"{pdb}:{xtc}", FrameRange(begin=k, end=k + 4)) for k in (0, 5))
    assert frames >= 10
    table = compare_measurements(whole, whole).table.set_index("property")
    expected = compare_measurements(first, second).table.set_index("property")
    for metric in ("pearson", "rmse", "jensen_shannon", "average_precision", "overlap"):
        np.testing.assert_allclose(table[f"within_b_{metric}"], expected[metric], rtol=1e-6)
    copy = shutil.copy(xtc, tmp_path / "copy.xtc")
    pooled = read_measurement(f"{pdb}:{xtc},{copy}", FrameRange(end=9))
    for name in ("rmsf", "ss", "vdw"):
        np.testing.assert_allclose(pooled.properties[name], whole.properties[name], atol=1e-5)
    replicas = compare_measurements(pooled, whole).table.set_index("property")
    assert replicas.loc["rmsf", "within_a_rmse"] == 0  # a copy
    assert read_measurement(f"{pdb}:{xtc}", FrameRange(end=9), convergence=False).parts == ()


def test_files_of_md_features(halves: tuple[Path, Path], tmp_path: Path) -> None:
    from data_prepare.molecular_dynamics import MD_features

    pdb, xtc = halves
    MD_features.main(["-p", str(pdb), "-t", str(xtc), "-o", str(tmp_path / "x"), "--end", "9"])
    measured = read_measurement(f"{pdb}:{xtc}", FrameRange(end=9), convergence=False)
    known, unknown = read_measurement(f"{pdb}:{tmp_path / 'x'}"), read_measurement(tmp_path / "x")
    assert (known.letters, known.numbers, known.chain_ids) == (measured.letters, measured.numbers, measured.chain_ids)
    assert unknown.sequences == ()
    for found in (known, unknown):
        assert found.properties.keys() == measured.properties.keys()
        for name, values in measured.properties.items():
            np.testing.assert_allclose(found.properties[name], values, atol=1e-6)
