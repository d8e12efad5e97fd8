"""Command: trajectory -> contact lines, with the flags of GetContacts.

get_dynamic_contacts.py --itypes hb sb pc ps ts hp vdw --cores 2 --topology T --trajectory X --output O
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from data_prepare.errors import InputError, run_command
from data_prepare.files import whole_file
from data_prepare.molecular_dynamics.contacts import (
    PUBLISHED,
    ContactHeader,
    ContactSearch,
    Criteria,
    atom_labels,
    contact_lines,
    types_asked,
    write_header,
)
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import count_frames, first_frame, read_chunks
from data_prepare.structure.readers import read_topology


@dataclass(frozen=True)
class Arguments:
    """Non-covalent contacts of the protein in each frame of a trajectory."""

    topology: Path
    """PDB, mmCIF, GRO, PSF or PRMTOP file of the system, with hydrogens."""
    trajectory: Path
    """XTC, DCD, TRR, NetCDF or multi-model PDB with the same atoms."""
    output: Path
    """Contact file to write (tab-separated)."""
    itypes: tuple[str, ...] = ("all",)
    """Interaction types: all, or some of hp sb pc ps ts vdw hb."""
    cores: int = 1
    """Threads that search frames."""
    beg: int = 0
    """First frame."""
    end: int | None = None
    """Last frame, inclusive; by default that of the trajectory."""
    stride: int = 1
    """Use every stride-th frame."""
    whole: bool = False
    """Make chains whole that the periodic box has broken; as published, coordinates are taken as they are."""
    criteria: tyro.conf.OmitArgPrefixes[Criteria] = PUBLISHED
    """Thresholds."""
    debug: bool = False
    """Show the traceback of an error."""


def write_contacts(arguments: Arguments) -> None:
    """Write the contact file that `arguments` ask for."""
    if arguments.cores < 1:
        raise InputError(f"--cores {arguments.cores}: expected 1 or more")
    chosen = FrameRange(begin=arguments.beg, end=arguments.end, stride=arguments.stride)
    itypes = types_asked(arguments.itypes)
    topology = read_topology(arguments.topology)
    first = first_frame(topology, arguments.trajectory, arguments.whole)
    search = ContactSearch(topology, first, itypes, arguments.criteria)
    labels = atom_labels(topology)
    frames = count_frames(arguments.trajectory)
    end = frames - 1 if arguments.end is None else min(arguments.end, frames - 1)
    total = len(range(arguments.beg, end + 1, arguments.stride))
    header = ContactHeader(total, arguments.beg, end, arguments.stride, itypes)
    with (
        whole_file(arguments.output) as temporary,
        open(temporary, "w") as file,
        ThreadPoolExecutor(arguments.cores) as pool,
        tqdm(total=total, desc="contacts", unit="frame") as bar,
    ):
        write_header(file, header)
        for chunk in read_chunks(topology, arguments.trajectory, chosen, whole=arguments.whole):
            found = pool.map(search.contacts, chunk.angstrom)
            for number, contacts in zip(chunk.numbers.tolist(), found, strict=True):
                file.writelines(f"{line}\n" for line in contact_lines(number, contacts, labels))
                bar.update()


def main() -> None:
    """Entry point of the command."""
    arguments = tyro.cli(Annotated[Arguments, tyro.conf.arg(name="")], use_underscores=True, description=__doc__)
    run_command(lambda: write_contacts(arguments), arguments.debug)


if __name__ == "__main__":
    main()
