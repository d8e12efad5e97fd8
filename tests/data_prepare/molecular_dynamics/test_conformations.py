"""Features of one conformation: those of a trajectory that never moves, without fluctuations."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from refusals import refused

from data_prepare.errors import InputWarning
from data_prepare.molecular_dynamics.features.md_features import conformation_features, md_features
from data_prepare.molecular_dynamics.frames.trajectory import Chunk
from data_prepare.properties import FLUCTUATIONS, HYDROGEN_BONDS, MD_PROPERTIES, entry_columns
from data_prepare.structure.readers import read_structure
from data_prepare.structure.topology import Structure


@pytest.fixture(scope="module")
def helix(examples) -> Structure:
    return read_structure(examples / "trajectories" / "helix_aeaaak.pdb")


def test_as_frames_that_do_not_move(helix) -> None:
    still = Chunk(np.arange(2), np.stack([helix.xyz, helix.xyz]).astype(np.float32), "angstrom")
    expected = md_features(helix.topology, [still])
    found = conformation_features(helix)
    assert found.missing == FLUCTUATIONS
    columns, channels = entry_columns(FLUCTUATIONS)
    assert np.isnan(found.residue[:, columns]).all()
    assert np.isnan(found.pair[..., channels]).all()
    kept, others = (np.delete(features.residue, columns, axis=1) for features in (found, expected))
    np.testing.assert_array_equal(kept, others)
    np.testing.assert_array_equal(np.delete(found.pair, channels, 2), np.delete(expected.pair, channels, 2))
    assert found.pair[..., :9].any()
    refused(
        lambda: md_features(helix.topology, [Chunk(*(part[:1] for part in (still.numbers, still.xyz)), "angstrom")])
    )


def test_no_hydrogens_are_no_news(helix) -> None:
    heavy = helix.subset(np.flatnonzero(np.array(helix.topology.elements) != "H"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        found = conformation_features(heavy)
    assert found.missing == tuple(name for name in MD_PROPERTIES if name in (*FLUCTUATIONS, *HYDROGEN_BONDS))
    columns = entry_columns(("ss", "chi", "phi", "psi"))[0]
    np.testing.assert_array_equal(found.residue[:, columns], conformation_features(helix).residue[:, columns])


def test_no_geometry_of_a_protein_and_missing_side_chains(helix) -> None:
    refused(lambda: conformation_features(Structure(helix.topology, helix.xyz * 3)), helix.topology.path, "structure")
    backbone = helix.subset(np.flatnonzero(np.isin(helix.topology.atom_names, ["N", "CA", "C", "O", "CB"])))
    with pytest.warns(InputWarning, match="chi"):
        assert "ss" not in conformation_features(backbone).missing
