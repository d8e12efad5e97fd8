"""Contact files of GetContacts, read and written.

Line 1 is `# total_frames:10 beg:0 end:9 stride:1 interaction_types:hb,sb,...`, line 2 names the columns. Each further
line is a contact, tab-separated: `frame type atom_1 atom_2` with atoms as `chain:resname:resid[icode]:name`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from data_prepare.errors import InputError, reading
from data_prepare.molecular_dynamics.contacts.search import Contacts
from data_prepare.properties import INTERACTIONS

COLUMNS_LINE: Final = "# Columns: frame, interaction_type, atom_1, atom_2[, atom_3[, atom_4]]"
HEADER: Final = re.compile(r"# ?total_frames:(\d+) beg:(\d+) end:(\d+) stride:(\d+) interaction_types:(\S*)\s*")
LINE: Final = re.compile(r"([0-9]+)\t([A-Za-z][A-Za-z0-9]*)\t([^\t\n]+)\t([^\t\n]+)(\t.*)?\n?")


class ContactHeader(NamedTuple):
    """First line of a contact file; `end` is inclusive."""

    total_frames: int
    beg: int
    end: int
    stride: int
    interaction_types: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"# total_frames:{self.total_frames} beg:{self.beg} end:{self.end} stride:{self.stride} "
            f"interaction_types:{','.join(self.interaction_types)}"
        )


def contact_lines(frame: int, contacts: Contacts, labels: Sequence[str]) -> list[str]:
    """Unique lines of a frame, which is numbered as in the trajectory; see `atom_labels` for the labels."""
    lines = (
        f"{frame}\t{INTERACTIONS[channel]}\t{labels[a]}\t{labels[b]}\n"
        for channel, a, b in zip(*(array.tolist() for array in contacts), strict=True)
    )
    return list(dict.fromkeys(lines))


def read_header(path: str | Path) -> ContactHeader:
    """Header of a contact file; InputError if it has none."""
    with reading(path, "a contact file"), open(path) as file:
        match = HEADER.fullmatch(file.readline())
    if match is None:
        raise InputError(f"{path}: not a contact file; its first line must begin with '# total_frames:'")
    total, beg, end, stride = map(int, match.groups()[:4])
    return ContactHeader(total, beg, end, stride, tuple(match[5].split(",")))


def read_contacts(path: str | Path) -> Iterator[tuple[int, str, str, str]]:
    """Frame, interaction and the labels of the first two atoms of each line; InputError names a malformed line.

    Interactions are those of GetContacts, also with ligands and water (`hbls`, `wb`), or of other programs.
    """
    with open(path, errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.startswith("#") or not line.strip():
                continue
            match = LINE.fullmatch(line)
            if match is None:
                raise InputError(f"{path}: line {number} is not a contact: expected frame, type, atom 1 and atom 2")
            yield int(match[1]), match[2], match[3], match[4]
