"""The text form of contacts, read and written.

Line 1 is `# total_frames:10 beg:0 end:9 stride:1 interaction_types:hb,sb,...`, line 2 names the columns, then follows a
tab-separated line `frame type atom_1 atom_2` per contact, atoms as `chain:resname:resid[icode]:name`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.contacts.search import Contacts
from data_prepare.molecular_dynamics.contacts.tables import TYPES

# types of GetContacts that are not extracted here; its files may hold them
OTHER_TYPES: Final = ("wb", "wb2", "lwb", "lwb2", "hls", "hlb", "br")
COLUMNS_LINE: Final = "# Columns: frame, interaction_type, atom_1, atom_2[, atom_3[, atom_4]]"


@dataclass(frozen=True)
class ContactHeader:
    """First line of a contact file.

    Attributes
    ----------
    total_frames
        Number of frames used.
    beg, end, stride
        Which frames of the trajectory; `end` is inclusive.
    interaction_types
        Types as they were asked for.
    """

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
    """Lines of one frame, identical ones once.

    Parameters
    ----------
    frame
        Number of the frame in the trajectory.
    contacts
        Its contacts.
    labels
        Label of each atom, see `atom_labels`.
    """
    return list(
        dict.fromkeys(
            f"{frame}\t{TYPES[kind]}\t{labels[a]}\t{labels[b]}"
            for kind, a, b in zip(
                contacts.kind.tolist(), contacts.atom_1.tolist(), contacts.atom_2.tolist(), strict=True
            )
        )
    )


def write_header(file: TextIO, header: ContactHeader) -> None:
    """Write the two header lines."""
    file.write(f"{header}\n{COLUMNS_LINE}\n")


def read_header(path: str | Path) -> ContactHeader:
    """Header of a contact file.

    Raises
    ------
    InputError
        If the first line is not one.
    """
    try:
        with open(path) as file:
            line = file.readline()
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such contact file") from None
    except UnicodeDecodeError:
        line = ""
    match = re.fullmatch(
        r"# ?total_frames:(\d+) beg:(\d+) end:(\d+) stride:(\d+) interaction_types:(\S*)", line.strip()
    )
    if match is None:
        raise InputError(f"{path}: not a contact file; its first line must begin with '# total_frames:'")
    total, beg, end, stride = (int(number) for number in match.groups()[:4])
    return ContactHeader(total, beg, end, stride, tuple(match[5].split(",")))


def read_contacts(path: str | Path) -> Iterator[tuple[int, str, str, str]]:
    """Frame, type and the labels of the two atoms of each line of a contact file.

    Raises
    ------
    InputError
        At a line that has another form, naming it.
    """
    with open(path, errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.startswith("#") or not line.strip():
                continue
            fields = line.rstrip("\n").split("\t")
            if len(fields) >= 4 and fields[1] in OTHER_TYPES:
                continue
            if len(fields) < 4 or not re.fullmatch("[0-9]+", fields[0]) or fields[1] not in TYPES:
                raise InputError(f"{path}: line {number} is not a contact: expected frame, type, atom 1 and atom 2")
            yield int(fields[0]), fields[1], fields[2], fields[3]
