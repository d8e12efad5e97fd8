"""Features of example entries against committed files that other programs made (tests/data/features)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prepare.molecular_dynamics.contacts import ContactSearch, atom_labels, contact_lines
from data_prepare.molecular_dynamics.features.accumulators import md_features
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import first_frame, read_chunks
from data_prepare.structure.readers import read_topology

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "features"


@pytest.fixture
def neopetrosiamide(examples):
    path = examples / "trajectories" / "2juy.pdb"
    return read_topology(path), path.with_suffix(".xtc")


def test_contacts(neopetrosiamide):
    topology, trajectory = neopetrosiamide
    search = ContactSearch(topology, first_frame(topology, trajectory))
    labels = atom_labels(topology)
    found = {
        line
        for chunk in read_chunks(topology, trajectory, FrameRange(stride=16))
        for number, frame in zip(chunk.numbers, chunk.angstrom, strict=True)
        for line in contact_lines(number, search.contacts(frame), labels)
    }
    assert found == set((GOLDEN / "2juy_contacts.tsv").read_text().splitlines())


def test_md_features(neopetrosiamide):
    features = md_features(*neopetrosiamide)
    table = pd.read_csv(GOLDEN / "2juy_res_feature.csv")
    for column in table:
        tolerance = 3e-4 if column.startswith("sasa") else 1e-6
        np.testing.assert_allclose(features.residue[column], table[column], atol=tolerance, err_msg=column)
    np.testing.assert_allclose(
        features.pair[..., 9], np.load(GOLDEN / "2juy_corr.npy"), atol=1e-6
    )  # float32 superposition there
