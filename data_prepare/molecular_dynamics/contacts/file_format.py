"""Contact files of GetContacts, read and written.

Line 1 is `# total_frames:10 beg:0 end:9 stride:1 interaction_types:hb,sb,...`, line 2 names the columns. Each further
line is a contact, tab-separated: `frame type atom_1 atom_2` with atoms as `chain:resname:resid[icode]:name`. Lines of
water bridges have the waters as atom_3 and atom_4. The last column may be the distance of atom_1 and atom_2, Angstrom.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import InputError, reading, require
from data_prepare.molecular_dynamics.contacts.ligand import LINE_TYPES
from data_prepare.molecular_dynamics.contacts.search import Contacts
from data_prepare.molecular_dynamics.contacts.water_bridge import Bridge

COLUMNS_LINE: Final = "# Columns: frame, interaction_type, atom_1, atom_2[, atom_3[, atom_4]]"
DISTANCE_COLUMN: Final = ", distance_1-2"
NUMBER: Final = "[0-9]{1,18}"  # fits an index; a damaged file may have any number of digits
HEADER: Final = re.compile(
    rf"# ?total_frames:({NUMBER}) beg:({NUMBER}) end:({NUMBER}) stride:({NUMBER}) interaction_types:(\S*)\s*"
)
LINE: Final = re.compile(rf"({NUMBER})\t([A-Za-z][A-Za-z0-9]*)\t([^\t\n]+)\t([^\t\n]+)(\t.*)?\n?")


class ContactHeader(NamedTuple):
    """First line of a contact file; `end` is inclusive."""

    total_frames: int
    beg: int
    end: int
    stride: int
    interaction_types: tuple[str, ...]

    @property
    def frames(self) -> range:
        """Numbers of the frames in the trajectory; of broken ones too, which may have been left out."""
        return range(self.beg, self.end + 1, self.stride)

    def __str__(self) -> str:
        return (
            f"# total_frames:{self.total_frames} beg:{self.beg} end:{self.end} stride:{self.stride} "
            f"interaction_types:{','.join(self.interaction_types)}"
        )


def contact_lines(
    frame: int,
    contacts: Contacts,
    labels: Sequence[str],
    bridges: Sequence[Bridge] = (),
    xyz: NDArray | None = None,
) -> list[str]:
    """Unique lines of a frame, which is numbered as in the trajectory; see `atom_labels` for the labels.

    With the coordinates (atoms, 3) of the frame in Angstrom, each line ends in a distance.
    """
    kinds = [LINE_TYPES[channel] for channel in contacts.channel.tolist()] + [bridge.kind for bridge in bridges]
    atoms = [*zip(contacts.atom_1.tolist(), contacts.atom_2.tolist(), strict=True), *(b.atoms for b in bridges)]
    ends = [""] * len(kinds)
    if xyz is not None and atoms:
        first, second = np.array([each[:2] for each in atoms]).T
        ends = [f"\t{d:.3f}" for d in np.linalg.norm(xyz[first].astype(np.float64) - xyz[second], axis=1)]
    lines = (
        "\t".join((str(frame), kind, *(labels[atom] for atom in each))) + f"{end}\n"
        for kind, each, end in zip(kinds, atoms, ends, strict=True)
    )
    return list(dict.fromkeys(lines))


def read_header(path: str | Path) -> ContactHeader:
    """Header of a contact file; InputError if it has none, or one that is impossible."""
    with reading(path, "a contact file"), open(path, encoding="utf-8") as file:
        match = HEADER.fullmatch(file.readline())
    if match is None:
        raise InputError(f"{path}: not a contact file; its first line must begin with '# total_frames:'")
    total, beg, end, stride = map(int, match.groups()[:4])
    header = ContactHeader(total, beg, end, stride, tuple(match[5].split(",")))
    possible = stride > 0 and 0 < total <= len(header.frames)
    numbers = f"{total} frames from {beg} to {end} with stride {stride}"
    require(possible, f"{path}: {numbers} are impossible; make the file again")
    return header


def read_contacts(path: str | Path) -> Iterator[tuple[int, str, str, str]]:
    """Frame, interaction and the labels of the first two atoms of each line; InputError names a malformed line.

    Interactions are those of GetContacts, also with ligands and water (`hbls`, `wb`), or of other programs.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.startswith("#") or not line.strip():
                continue
            match = LINE.fullmatch(line)
            if match is None:
                raise InputError(f"{path}: line {number} is not a contact: expected frame, type, atom 1 and atom 2")
            yield int(match[1]), match[2], match[3], match[4]
