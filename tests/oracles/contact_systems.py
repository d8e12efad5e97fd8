"""Helpers for tests of contacts and features: thresholds by option name, lines of the fast code, chunks."""

from __future__ import annotations

import numpy as np

from data_prepare.molecular_dynamics.contacts.file_format import contact_lines
from data_prepare.molecular_dynamics.contacts.search import PUBLISHED, ContactSearch, atom_labels
from data_prepare.molecular_dynamics.frames.trajectory import Chunk

GROUP_OF_LIMIT = {name: group for group, limits in PUBLISHED._asdict().items() for name in limits._fields}


def criteria_of(**limits):
    """Published thresholds, some of them replaced."""
    result = PUBLISHED
    for name, value in limits.items():
        group = GROUP_OF_LIMIT[name]
        result = result._replace(**{group: getattr(result, group)._replace(**{name: value})})
    return result


def fast_lines(topology, frames, limits=None, itypes=("all",)):
    """Contact lines of frames that begin with the first one of the trajectory."""
    search = ContactSearch(topology, frames[0], itypes, criteria_of(**(limits or {})))
    labels = atom_labels(topology)
    return {
        line.rstrip("\n")
        for number, frame in enumerate(frames)
        for line in contact_lines(number, search.contacts(frame), labels)
    }


def angstrom_chunk(xyz):
    """Chunk of frames (frames, atoms, 3) in Angstrom."""
    return Chunk(np.arange(len(xyz)), np.asarray(xyz, np.float32), "angstrom")
