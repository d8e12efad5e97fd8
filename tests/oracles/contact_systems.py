"""Helpers for tests of contacts and features: thresholds by option name, lines of the fast code, chunks, residues."""

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


def fast_lines(topology, frames, limits=None, itypes=("all",), selections=None):
    """Contact lines of frames that begin with the first one of the trajectory."""
    search = ContactSearch(topology, frames[0], itypes, criteria_of(**(limits or {})), selections)
    labels = atom_labels(topology)
    return {
        line.rstrip("\n")
        for number, frame in enumerate(frames)
        for line in contact_lines(number, search.contacts(frame), labels)
    }


def angstrom_chunk(xyz):
    """Chunk of frames (frames, atoms, 3) in Angstrom."""
    return Chunk(np.arange(len(xyz)), np.asarray(xyz, np.float32), "angstrom")


def residue(name, chain, number, origin, extra=(), **options):
    """Backbone N, CA, C, far below `origin` so that it takes part in nothing, and extra atoms relative to origin."""
    origin = np.asarray(origin, float)
    backbone = [(atom, origin + np.array((1.5 * k, 0, -40)), {}) for k, atom in enumerate(("N", "CA", "C"))]
    atoms = backbone + [(atom, origin + position, dict(*more)) for atom, position, *more in extra]
    return [(atom, name, chain, number, position, options | more) for atom, position, more in atoms]


def two(first, second, distance, number=9, chain="A", element=None):
    """Two residues, each given as (name, atom), whose atoms are at a distance along x."""
    options = [{"element": element}] if element else []
    return residue(first[0], "A", 1, (0, 0, 0), [(first[1], (0, 0, 0), *options)]) + residue(
        second[0], chain, number, (20, 0, 0), [(second[1], (distance - 20, 0, 0), *options)]
    )
