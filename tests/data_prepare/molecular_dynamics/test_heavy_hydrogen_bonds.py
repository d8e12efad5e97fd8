"""Hydrogen bonds of models without hydrogens, against their definition atom by atom."""

from __future__ import annotations

from itertools import combinations

import mdtraj
import numpy as np
import pytest

from data_prepare.molecular_dynamics import MD_features, get_dynamic_contacts
from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.properties import PAIR_CHANNELS
from data_prepare.structure.readers import read_topology

DONORS = "ARG:NE ARG:NH1 ARG:NH2 LYS:NZ TRP:NE1 ASN:ND2 GLN:NE2 HIS:ND1 HIS:NE2 SER:OG THR:OG1 TYR:OH".split()
ACCEPTORS = "ASN:OD1 GLN:OE1 ASP:OD1 ASP:OD2 GLU:OE1 GLU:OE2 HIS:ND1 HIS:NE2 SER:OG THR:OG1 TYR:OH".split()


def bonds_of(names, xyz, numbers, bonded):
    """Pairs (i, j) of atoms, named RES:ATOM, of a frame (atoms, 3) in Angstrom that bond."""
    donors = [(n.endswith(":N") and n != "PRO:N") or n in DONORS for n in names]
    acceptors = [n.split(":")[1] in ("O", "OXT") or n in ACCEPTORS for n in names]

    def faces(i, j):
        return all(np.dot(xyz[k] - xyz[i], xyz[j] - xyz[i]) <= 0 for k in bonded[i])

    for i, j in combinations(np.flatnonzero(np.array(donors) | acceptors).tolist(), 2):
        fits = (donors[i] and acceptors[j]) or (donors[j] and acceptors[i])
        near = np.linalg.norm(xyz[i] - xyz[j]) <= 3.5
        if fits and near and numbers[i] != numbers[j] and faces(i, j) and faces(j, i):
            yield i, j


@pytest.mark.parametrize("name", ["1v6p", "helix_eeeekkkk"])
def test_definition(examples, tmp_path, name):
    path = examples / "trajectories" / f"{name}.pdb"
    frames = mdtraj.load(str(path.with_suffix(".xtc")), top=str(path))[:5]
    frames = frames.atom_slice(frames.topology.select("element != H"))
    frames[0].save_pdb(str(tmp_path / "t.pdb"))
    frames.save_xtc(str(tmp_path / "t.xtc"))
    topology = read_topology(tmp_path / "t.pdb")
    features = md_features(topology, tmp_path / "t.xtc", features=("contacts",), hbond_of_heavy_atoms=True)
    assert not {"hbbb", "hbsb", "hbss"} & {*features.missing}
    residue = [atom.residue.index for atom in frames.topology.atoms]
    names = [f"{topology.residue_names[r]}:{n}" for r, n in zip(residue, topology.atom_names, strict=True)]
    xyz = 10 * mdtraj.load(str(tmp_path / "t.xtc"), top=str(tmp_path / "t.pdb")).xyz
    apart = np.linalg.norm(xyz[0][:, None] - xyz[0], axis=-1)
    bonded = [np.flatnonzero((row < 1.9) & (row > 0)) for row in apart]
    n = topology.num_residues
    expected = np.zeros((3, n, n))
    for frame in xyz:
        for i, j in bonds_of(names, frame, residue, bonded):
            kind = sum(topology.atom_names[atom] in ("N", "O") for atom in (i, j))
            expected[2 - kind, residue[i], residue[j]] += 1 / len(xyz)
    found = np.stack([features.pair[..., PAIR_CHANNELS[kind]] for kind in ("hbbb", "hbsb", "hbss")])
    assert expected.sum() > 10
    np.testing.assert_allclose(found + found.swapaxes(1, 2), expected + expected.swapaxes(1, 2), atol=1e-9)


def test_commands_call_it_another_definition(shared, tmp_path):
    folder = shared / "cases" / "backbone_ensemble"
    files = [folder / "heavy.pdb", folder / "heavy.xtc"]
    options = ["-p", files[0], "-t", files[1], "-o", tmp_path / "x", "--hbond-of-heavy-atoms"]
    MD_features.main([str(option) for option in options])
    with np.load(tmp_path / "x_pair_feature.npz") as arrays:
        assert str(arrays["hydrogen_bonds"]) == "of heavy atoms"
        assert np.isfinite(arrays["array"]).all()
        assert arrays["array"][..., PAIR_CHANNELS["hbbb"]].any()
    options = [
        "--topology",
        files[0],
        "--trajectory",
        files[1],
        "--output",
        tmp_path / "c.tsv",
        "--hbond_of_heavy_atoms",
    ]
    get_dynamic_contacts.main([str(option) for option in options])
    lines = (tmp_path / "c.tsv").read_text().splitlines()
    assert "heavy atoms" in lines[2]
    assert sum("\thbbb\t" in line for line in lines) > 0
