from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import prody
import pytest
from refusals import refused

from data_prepare.structure.readers import read_structure
from model.evaluation.elastic_networks import network_profiles, structure_profiles

THREE_LETTERS = {"A": "ALA", "G": "GLY", "K": "LYS", "M": "MSE", "W": "TRP", "D": "ASP"}


class Springs(prody.Gamma):
    """Force constants of the normal mode features by squared distance."""

    def gamma(self, dist2: float, i: int, j: int) -> float:
        return 10.0 if dist2 <= 16 else 2.0 if dist2 <= 100 else 1.0


def prody_profiles(xyz: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Fluctuation and co-movement from the slowest modes that ProDy finds."""
    gnm, anm = prody.GNM(), prody.ANM()
    gnm.buildKirchhoff(xyz, cutoff=15.0, gamma=Springs())
    anm.buildHessian(xyz, cutoff=15.0, gamma=Springs())
    found = {}
    for name, network, most in (("gnm", gnm, len(xyz) - 1), ("anm", anm, 3 * len(xyz) - 6)):
        network.calcModes(min(20, most))
        found[name] = np.sqrt(prody.calcSqFlucts(network)), prody.calcCrossCorr(network)
    return found


def walk(n: int, seed: int = 0) -> np.ndarray:
    """C-alpha positions (n, 3) of a compact chain, as a PDB file has them."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(n, 3))
    return (3.8 * np.cumsum(steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)).round(3)


def atoms(chain: str, letters: str, xyz: np.ndarray, numbers: list[int] | None = None) -> list[tuple]:
    numbers = numbers or list(range(1, len(letters) + 1))
    return [
        ("CA", THREE_LETTERS[letter], chain, number, place, {"element": "C"})
        for letter, number, place in zip(letters, numbers, xyz, strict=True)
    ]


@pytest.mark.parametrize("source", ["structure", "fewer modes"])
def test_networks_equal_those_of_prody(examples: Path, source: str) -> None:
    if source == "structure":
        topology, xyz = read_structure(examples / "structures/1ubi_A.pdb.gz")
        xyz = xyz[[residue["CA"] for residue in topology.atoms_by_name if "CA" in residue]]
    else:
        xyz = walk(8)  # the Gaussian network has 7 modes, the anisotropic one 18
    expected, found = prody_profiles(xyz), network_profiles(xyz)
    assert list(found) == ["gnm", "anm"]
    for network, (fluctuation, comovement) in expected.items():
        np.testing.assert_allclose(found[network].fluctuation, fluctuation, rtol=1e-8)
        np.testing.assert_allclose(found[network].comovement, comovement, atol=1e-8)


def test_chains_and_unresolved_residues_in_token_space(tmp_path: Path, write_pdb) -> None:
    """<cls> A[AG]KM <eos> <cls> WD[DG] <eos>: residues in brackets are not in the file."""
    xyz = walk(5)
    path = write_pdb(atoms("A", "AKM", xyz[:3], [1, 4, 5]) + atoms("B", "WD", xyz[3:]), "x.pdb")
    rows = [1, 4, 5, 8, 9]
    found = structure_profiles(tmp_path, "x", "AAGKM<eos><cls>WDDG")
    whole = network_profiles(xyz)
    for network, profile in found.items():
        assert profile.fluctuation.shape == (13,)
        assert profile.comovement.shape == (13, 13)
        assert np.flatnonzero(np.isfinite(profile.fluctuation)).tolist() == rows
        assert np.array_equal(profile.fluctuation[rows], whole[network].fluctuation)
        assert np.array_equal(profile.comovement[np.ix_(rows, rows)], whole[network].comovement)
        assert np.isfinite(profile.comovement).sum() == 25

    path.rename(tmp_path / "y.PDB")
    with gzip.open(tmp_path / "z.pdb.gz", "wt") as file:
        file.write((tmp_path / "y.PDB").read_text())
    again = structure_profiles(tmp_path, "z", "AAGKM<eos><cls>WDDG")
    np.testing.assert_array_equal(again["anm"].comovement, found["anm"].comovement)


def test_declared_sequence_places_the_residues(tmp_path: Path) -> None:
    """The author's residue numbers have no gap: only the sequence shows which one of three alanines is missing."""
    names, rows, xyz = ["LYS", "ALA", "ALA", "MSE"], [1, 2, 4, 5], walk(4)
    lines = ["data_x", "loop_", *(f"_entity_poly_seq.{item}" for item in ("entity_id", "num", "mon_id"))]
    lines += [f"1 {number} {name}" for number, name in enumerate(["LYS", "ALA", "ALA", "ALA", "MSE"], 1)]
    items = "label_asym_id label_entity_id label_comp_id label_seq_id auth_seq_id label_atom_id type_symbol"
    lines += ["loop_", *(f"_atom_site.{item}" for item in f"{items} Cartn_x Cartn_y Cartn_z".split())]
    for number, (name, row, position) in enumerate(zip(names, rows, xyz, strict=True), 1):
        lines.append(f"A 1 {name} {row} {number} CA C {' '.join(map(str, position))}")
    (tmp_path / "x.cif").write_text("\n".join(lines) + "\n")
    found = structure_profiles(tmp_path, "x", "KAAAM")["gnm"].fluctuation
    assert np.flatnonzero(np.isfinite(found)).tolist() == rows


@pytest.mark.parametrize(
    ("first", "modify_seq", "named"),
    [
        ("AGKM", "AAGKW<eos><cls>WD", "chain A"),
        ("AGKM", "AGKM<eos><cls>WA", "chain B"),
        ("AGKM", "AGKMWD", "2 protein chains"),
        ("AGKMWDAGKMWDAGKM", "AGKMWDAGKMWDKGKM<eos><cls>WD", "chain A"),  # an alignment alone would accept it
    ],
)
def test_structure_of_another_sequence(tmp_path: Path, write_pdb, first: str, modify_seq: str, named: str) -> None:
    xyz = walk(18)
    path = write_pdb(atoms("A", first, xyz[: len(first)]) + atoms("B", "WD", xyz[-2:]), "x.pdb")
    found = structure_profiles(tmp_path, "x", f"GG{first}<eos><cls>WD")["gnm"].fluctuation
    assert np.isfinite(found).sum() == len(first) + 2
    refused(lambda: structure_profiles(tmp_path, "x", modify_seq), path, named, "modify_seq")


@pytest.mark.parametrize("xyz", [np.ones((2, 3)), np.array([[1, 1, 1], [1, 1, np.nan]])])
def test_structures_that_cannot_be_used(tmp_path: Path, write_pdb, xyz: np.ndarray) -> None:
    refused(lambda: structure_profiles(tmp_path, "x", "AG"), tmp_path, "x", ".cif")
    path = write_pdb(atoms("A", "AG", xyz), "x.pdb")
    refused(lambda: structure_profiles(tmp_path, "x", "AG"), path, "C-alpha")
