"""ProteinFlow: pickles of complexes."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
import pytest
from refusals import refused
from source_files import only

from data_prepare.normal_mode_analysis.features import nma_features_of
from data_prepare.sources.entry import Selection
from data_prepare.sources.registry import list_source


@pytest.fixture
def chains(helix):
    """Entry of the release: chain H with two unresolved residues and a modified one, chain L whole."""
    atoms = helix.topology.atoms_by_name
    backbone = np.array([[helix.angstrom[0, by_name[name]] for name in ("N", "C", "CA", "O")] for by_name in atoms])
    length = len(backbone)
    msk = np.ones(length, int)
    msk[[0, 5]] = 0
    seq = helix.topology.chain_sequences()[0]
    more = {"crd_sc": np.zeros((length, 10, 3)), "cdr": np.array(["-"] * length)}
    resolved = np.where(msk[:, None, None], backbone, 0)
    return {
        "H": {"crd_bb": resolved, "msk": msk, "seq": f"{seq[:2]}O{seq[3:]}", **more},
        "L": {"crd_bb": backbone + 15, "msk": np.ones(length), "seq": seq, **more},
    }


def test_pickle(tmp_path, chains):
    (tmp_path / "1abc-1.pickle").write_bytes(pickle.dumps(chains))
    entry = only(list_source("proteinflow", tmp_path))
    assert (entry.name, entry.source) == ("1abc-1", "proteinflow_pdb")
    with entry.open(Selection()) as system:
        topology, xyz = system
    assert topology.chain_ids == ("H", "L")
    assert topology.chain_lengths == [15, 17]
    assert topology.atom_names[:5] == ("N", "CA", "C", "O", "N")
    assert topology.elements[:4] == ("N", "C", "C", "O")
    assert topology.residue_names[:3] == ("GLU", "UNK", "ALA")
    assert topology.residue_numbers[:5].tolist() == [2, 3, 4, 5, 7]
    sequences, residue_index = topology.full_sequences()
    assert sequences == ["AEXAAKEAAAKEAAAKA", "AEAAAKEAAAKEAAAKA"]
    assert np.setdiff1d(np.arange(34), residue_index).tolist() == [0, 5]
    expected = [chains[chain]["crd_bb"][chains[chain]["msk"] != 0, 2] for chain in "HL"]
    np.testing.assert_array_equal(xyz[1::4], np.concatenate(expected))  # C-alpha
    with entry.open(Selection(chains=("L",))) as system:
        assert system.topology.chain_ids == ("L",)
        np.testing.assert_array_equal(system.xyz[1::4], expected[1])


def test_sources(tmp_path, chains, helix):
    """SAbDab by the path; a pickle has the normal modes of the PDB file of its coordinates."""
    raw = tmp_path / "proteinflow"
    (raw / "SAbDab_2023" / "valid").mkdir(parents=True)
    (raw / "SAbDab_2023" / "valid" / "b.pkl").write_bytes(pickle.dumps({"A": chains["L"]}))
    (raw / "SAbDab_2023" / "a.pdb.gz").write_bytes(gzip.compress(helix.pdb.encode()))
    (raw / "c.pdb").write_text(helix.pdb)
    entries = list_source("proteinflow", raw)
    sources = ["proteinflow_sabdab", "proteinflow_sabdab", "proteinflow_pdb"]
    assert [(entry.name, entry.source) for entry in entries] == list(zip("abc", sources, strict=True))
    assert {entry.source for entry in list_source("proteinflow", raw / "SAbDab_2023")} == {"proteinflow_sabdab"}
    modes = []
    for entry in entries:
        with entry.open(Selection()) as system:
            modes.append(nma_features_of(*system)[1])
    np.testing.assert_allclose(modes[1].gnm_msf, modes[0].gnm_msf, rtol=1e-3)
    np.testing.assert_array_equal(modes[2].gnm_msf, modes[0].gnm_msf)


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize(
    ("entry", "change", "named"),
    [
        ({"H": Attack()}, None, "system"),
        ([1], None, "ProteinFlow"),
        ({}, None, "residue"),
        ({"H": [1]}, None, "chain H"),
        ({"H": {"seq": "AA", "msk": np.ones(2)}}, None, "crd_bb"),
        (None, {"seq": 5}, "chain L"),
        (None, {"msk": np.ones(3)}, "(17, 4, 3)"),
        (None, {"crd_bb": np.full((17, 4, 3), "x")}, "chain L"),
        (None, {"msk": np.zeros(17)}, "residue"),
    ],
)
def test_refused(tmp_path, chains, monkeypatch, entry, change, named):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps({"L": chains["L"] | change} if change else entry))
    refused(lambda: only(list_source("proteinflow", tmp_path)).open(Selection()).__enter__(), path, named)
    assert os.listdir(tmp_path) == ["x.pickle"]
