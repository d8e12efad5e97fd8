"""The table of shapes of the notebook, and the script that makes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from refusals import command_refused

TABLE = Path(__file__).resolve().parents[1] / "notebook" / "shapes.csv"
COLUMNS = ["name", "sequence", "rg_nm", "re_nm", "asphericity", "cluster", *(f"split_{k}" for k in range(20))]


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("notebook/make_shapes.py")


def test_a_rod_a_ball_and_a_disc(script) -> None:
    """n points at a distance d: Rg^2 = d^2 (n^2 - 1) / 12. A ball: Rg^2 = 3 r^2 / 5. A disc: l1 = l2, l3 = 0.

    2 Rg^2 is the mean squared distance of all pairs.
    """
    rod = script.shape_of(np.outer(np.arange(40) * 0.15, [1, 2, 2]) / 3)
    assert rod == pytest.approx((0.15 * np.sqrt((40**2 - 1) / 12), 39 * 0.15, 1))
    axis = np.linspace(-2, 2, 41)
    points = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    ball = script.shape_of(points[np.linalg.norm(points, axis=1) <= 2] + [5, -3, 8])
    assert ball.asphericity == pytest.approx(0, abs=1e-9)
    assert ball.rg_nm == pytest.approx(np.sqrt(3 * 2**2 / 5), rel=0.02)
    disc = points[(points[:, 2] == points[0, 2]) & (np.linalg.norm(points[:, :2], axis=1) <= 2)]
    assert script.shape_of(disc).asphericity == pytest.approx(1 / 4)
    xyz = np.random.default_rng(0).normal(size=(30, 3))
    pairs = ((xyz[:, None] - xyz) ** 2).sum(-1)  # (30, 30)
    assert script.shape_of(xyz).rg_nm == pytest.approx(np.sqrt(pairs.mean() / 2))


def strand(chain: str, residues: int, gap: int | None = None, **first) -> list[tuple]:
    """Atoms of an extended chain of alanines; a residue is missing after `gap`."""
    atoms = []
    for k in range(residues):
        x = 3.8 * (k + (gap is not None and k >= gap))
        for name, offset in (("N", -1.2), ("CA", 0.0), ("C", 1.3)):
            atoms.append((name, "ALA", chain, k + 1, (x + offset, 0.0, 0.0), {} if atoms else dict(first)))
    return atoms


def test_chains_without_gaps(script, write_pdb, tmp_path: Path, capsys) -> None:
    command_refused(script.main, ["--structures", tmp_path, "--output", tmp_path / "x.csv"], capsys, tmp_path)
    atoms = [*strand("A", 5), *strand("B", 6, gap=3), *strand("C", 4), *strand("C", 7, ter_before=True)]
    found = {name: (sequence, xyz) for name, sequence, xyz in script.chains_without_gaps(write_pdb(atoms, "x.pdb"))}
    assert {name: len(sequence) for name, (sequence, _) in found.items()} == {"x_A": 5, "x_C": 4, "x_C2": 7}
    np.testing.assert_allclose(found["x_A"][1], np.outer(np.arange(5) * 0.38, [1, 0, 0]), atol=1e-9)


def check(table: pd.DataFrame) -> None:
    assert list(table) == COLUMNS
    assert table["name"].is_unique
    assert table["sequence"].is_unique
    assert table["sequence"].str.len().min() >= 30
    for labels in (table[f"split_{k}"] for k in range(20)):
        assert set(labels) == {"train", "test"}
        assert labels.groupby(table["cluster"]).nunique().max() == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mmseqs") is None, reason="MMseqs2 is not installed")
def test_table_of_a_folder(script, examples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "structures" / "more"
    folder.mkdir(parents=True)
    for name in ("1ubi_A", "1hvr_AB", "2cvi_A", "3a4r_A", "1i8n_A", "4gcn_A"):
        shutil.copy(examples / "structures" / f"{name}.pdb.gz", folder)
    shutil.copy(folder / "1ubi_A.pdb.gz", folder / "same.pdb.gz")
    script.main(["--structures", str(folder.parent), "--output", str(tmp_path / "shapes.csv")])
    table = pd.read_csv(tmp_path / "shapes.csv")
    check(table)
    assert len(set(map(tuple, table.filter(like="split_").to_numpy().T))) > 1
    assert "same_A" not in set(table["name"])
    ubiquitin = table.set_index("name").loc["1ubi_A_A"]
    assert ubiquitin["rg_nm"] == pytest.approx(1.17, abs=0.05)  # nm
    assert len(ubiquitin["sequence"]) == 76


def test_the_table_of_the_notebook() -> None:
    assert TABLE.stat().st_size < 300_000
    assert "/" not in TABLE.read_text()
    table = pd.read_csv(TABLE)
    check(table)
    assert len(table) > 500
    assert table["asphericity"].between(0, 1).all()
    assert (table["re_nm"] <= 0.45 * (table["sequence"].str.len() - 1)).all()
    splits = table.filter(like="split_") == "test"
    assert splits.mean().tolist() == pytest.approx([0.2] * 20, abs=0.01)
    assert len(set(map(tuple, splits.to_numpy().T))) == 20
