"""Tables of residues, in all formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from backbones import BACKBONE
from refusals import refused

from data_prepare.properties import RESIDUE_COLUMNS, RESIDUE_PROPERTIES, table_columns
from model.inference import tables
from model.inference.inputs import Protein, protein_of_structure
from model.inference.prediction_files import Prediction, residue_table
from model.inference.tables import check_table, without_suffix, write_tables

READERS = {".csv": pd.read_csv, ".csv.gz": pd.read_csv, ".parquet": pd.read_parquet, ".xlsx": pd.read_excel}


def needs(suffix: str) -> None:
    if suffix in tables.PACKAGES:
        pytest.importorskip(tables.PACKAGES[suffix][0])


def prediction(protein: Protein, residues: int) -> Prediction:
    random = np.random.default_rng(0)
    widths = {name: width for name, (_, width) in RESIDUE_COLUMNS.items()}
    shapes = {name: (residues,) if widths[name] == 1 else (residues, widths[name]) for name in RESIDUE_PROPERTIES}
    values = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
    return Prediction(protein.name, protein.sequence, "net 0f", np.zeros(residues, np.int32), values)


def test_columns() -> None:
    protein = Protein("p", "MK<mask><eos><cls>V")
    predicted = prediction(protein, 4)
    table = residue_table(protein, predicted)
    assert table.iloc[:, :5].to_numpy().tolist() == [
        ["p", "A", "1", 1, "M"],
        ["p", "A", "2", 2, "K"],
        ["p", "A", "3", 3, "<mask>"],
        ["p", "B", "4", 4, "V"],
    ]
    assert len(table.columns) == 5 + 50 + 1
    assert set(table["model"]) == {"net 0f"}
    np.testing.assert_array_equal(table["ss_H"], predicted.properties["ss"][:, 2])
    np.testing.assert_array_equal(table["ss_none"], predicted.properties["ss"][:, 7])
    np.testing.assert_array_equal(table["psi_-180_-150"], predicted.properties["psi"][:, 0])
    np.testing.assert_array_equal(table["phi_150_180"], predicted.properties["phi"][:, 11])
    np.testing.assert_array_equal(table["nma_res2"], predicted.properties["nma_res2"])
    assert table_columns("rmsf_nor") == ["rmsf_nor"]


def backbone(name: str, chain: str, number: int, shift: float, **options: str) -> list[tuple]:
    """Atoms of a residue for `write_pdb`, shifted along x (Angstrom)."""
    places = {atom: np.add(place, (shift, 0, 0)) for atom, place in BACKBONE.items()}
    return [(atom, name, chain, number, place, dict(options)) for atom, place in places.items()]


def test_numbers_of_a_structure(write_pdb) -> None:
    """Insertion codes, a negative number, an unresolved residue, two chains."""
    atoms = backbone("MET", "H", -1, 0) + backbone("LYS", "H", 2, 4) + backbone("ALA", "H", 2, 8, icode="A")
    path = write_pdb(atoms + backbone("TRP", "L", 2, 40))
    lines = "SEQRES   1 H    4  MET GLY LYS ALA\nSEQRES   1 L    1  TRP\n"
    path.write_text(lines + path.read_text())
    protein = protein_of_structure(path)
    table = residue_table(protein, prediction(protein, 5))
    assert table["chain"].tolist() == list("HHHHL")
    assert table["number"].tolist() == ["-1", "", "2", "2A", "2"]
    assert "".join(table["residue"]) == "MGKAW"
    assert table["position"].tolist() == [1, 2, 3, 4, 5]
    assert protein_of_structure(path, "L").residue_ids == (("L", "2"),)


@pytest.mark.parametrize("suffix", READERS)
def test_written_below_each_other(tmp_path: Path, suffix: str) -> None:
    needs(suffix)
    path = tmp_path / f"s{suffix}"
    parts = [
        pd.DataFrame({"protein": key, "mutant": ["A1C", "A1D"], "x": [0.1, value]})
        for key, value in (("a", 1 / 3), ("=1+1", 1e-300))
    ]
    write_tables(iter(parts), path)
    pd.testing.assert_frame_equal(READERS[suffix](path), pd.concat(parts, ignore_index=True), check_exact=True)
    if suffix == ".csv.gz":
        assert path.read_bytes()[:8] == b"\x1f\x8b\x08" + bytes(5)  # neither name nor time in its header
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_excel_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs(".xlsx")
    monkeypatch.setattr(tables, "EXCEL_ROWS", 3)
    table = pd.DataFrame({"x": [np.nan, 0.5]})
    write_tables([table], tmp_path / "a.xlsx")
    assert np.isnan(pd.read_excel(tmp_path / "a.xlsx")["x"].iloc[0])
    refused(lambda: write_tables([table, table], tmp_path / "b.xlsx"), "b.xlsx", "rows", ".csv")
    assert not (tmp_path / "b.xlsx").exists()


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert without_suffix(Path("a/b.c.CSV.gz")) == Path("a/b.c")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(lambda: check_table(tmp_path / "x.xlsx"), "x.xlsx", "openpyxl", "seqdance[excel]")
    refused(lambda: check_table(tmp_path / "x.parquet"), "x.parquet", "pyarrow")
    refused(lambda: check_table(tmp_path / "x.tsv"), "x.tsv", ".xlsx")
