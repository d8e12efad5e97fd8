"""What the tests of contacts share: thresholds by the names of their options, and the lines of the fast code."""

from __future__ import annotations

from data_prepare.molecular_dynamics.contacts.file_format import contact_lines
from data_prepare.molecular_dynamics.contacts.search import PUBLISHED, ContactSearch, atom_labels

GROUP_OF_LIMIT = {name: group for group, limits in PUBLISHED._asdict().items() for name in limits._fields}


def criteria_of(**limits):
    """Published thresholds but for some."""
    result = PUBLISHED
    for name, value in limits.items():
        group = GROUP_OF_LIMIT[name]
        result = result._replace(**{group: getattr(result, group)._replace(**{name: value})})
    return result


def fast_lines(topology, frames, limits=None, itypes=("all",)):
    """Contact lines of frames, the first of which is that of the trajectory."""
    search = ContactSearch(topology, frames[0], itypes, criteria_of(**(limits or {})))
    labels = atom_labels(topology)
    return {
        line.rstrip("\n")
        for number, frame in enumerate(frames)
        for line in contact_lines(number, search.contacts(frame), labels)
    }
