"""Non-covalent contacts of the protein in each frame of a trajectory, with the options of GetContacts.

get_dynamic_contacts.py --itypes hb sb pc ps ts hp vdw --cores 2 --topology T --trajectory X --output O

With --sele and --sele2, contacts are between two selections, as of a chain or a ligand:

get_dynamic_contacts.py --topology T --trajectory X --output O --sele "chain A" --sele2 "chain B or ligand"
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import tyro
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from data_prepare.command_line import Settings, run
from data_prepare.errors import InputWarning, require
from data_prepare.files import whole_file
from data_prepare.molecular_dynamics.contacts.file_format import (
    COLUMNS_LINE,
    DISTANCE_COLUMN,
    ContactHeader,
    contact_lines,
)
from data_prepare.molecular_dynamics.contacts.kernels import Criteria
from data_prepare.molecular_dynamics.contacts.search import ALL, PUBLISHED, ContactSearch, atom_labels
from data_prepare.molecular_dynamics.contacts.selection import selections_of
from data_prepare.molecular_dynamics.contacts.water_bridge import WaterBridges
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import BrokenFrame, Chunk, count_frames, first_frame, read_chunks
from data_prepare.structure.readers import read_topology
from data_prepare.structure.topology import Topology


@dataclass(frozen=True, kw_only=True)
class Frames(Settings):
    """Frames to use. As in GetContacts, numbers outside the trajectory are moved into it; a warning says so."""

    begin: Annotated[int, tyro.conf.arg(aliases=["--beg"])] = 0
    """First frame; --beg is the name in GetContacts."""
    end: int | None = None
    """Last frame, inclusive; by default, and with 0, the last one of the trajectory."""
    stride: int = 1
    """Use every stride-th frame."""

    def of(self, trajectory: Path) -> tuple[FrameRange, range]:
        """The range in a trajectory, and its frame numbers."""
        total = count_frames(trajectory, self.end or None)
        begin = min(max(self.begin, 0), total - 1)
        last = self.end or total - 1
        used = FrameRange(begin=begin, end=min(max(last, begin), total - 1), stride=max(self.stride, 1))
        moved = (
            ("begin", self.begin, used.begin),
            ("end", last, used.end),
            ("stride", self.stride, used.stride),
        )
        for name, given, value in moved:
            if given != value:
                warnings.warn(
                    f"{trajectory}: {total} frames; using --{name} {value} in the place of {given}",
                    InputWarning,
                    stacklevel=2,
                )
        return used, used.numbers(total, trajectory)


@dataclass(frozen=True, kw_only=True)
class ContactOptions(Settings):
    """What to find and where to write it."""

    output: Path
    """Contact file to write (tab-separated)."""
    itypes: Annotated[
        tuple[Literal["all", "hp", "sb", "pc", "ps", "ts", "vdw", "hb", "hbbb", "hbsb", "hbss"], ...],
        Field(min_length=1),
    ] = ("all",)
    """Interactions to find."""
    sele: str | None = None
    """Atoms among which to find contacts, by default `protein`. Words: and, or, not, ( ), all, protein, nucleic, solv,
    lipid, ligand, backbone, sidechain, noh; chain A, resname LIG, resid 10 to 20 25, name CA, element C, index 0."""
    sele2: str | None = None
    """Find contacts between --sele and these atoms."""
    ligand: str | None = None
    """What the word ligand means; by default what is no protein, cap, nucleic acid, solvent or lipid."""
    solv: str | None = None
    """Find water bridges (with hb) by these atoms, as `--solv water`; also what the word solv means."""
    lipid: str | None = None
    """What the word lipid means."""
    distout: bool = False
    """Add a column with the distance of atom 1 and atom 2, Angstrom."""
    criteria: tyro.conf.OmitArgPrefixes[Criteria] = PUBLISHED
    """Thresholds."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        """Refuse negative, infinite and missing thresholds."""
        for limits in self.criteria:
            for name, value in limits._asdict().items():
                require(0 <= value < inf, f"--{name} {value}: expected a number >= 0")


@dataclass(frozen=True, kw_only=True)
class Options(ContactOptions):
    """Contacts of a trajectory."""

    topology: Path
    """PDB, mmCIF, GRO, PSF or PRMTOP file of the system, with hydrogens."""
    trajectory: Path
    """XTC, TRR, DCD, NetCDF or multi-model PDB with the same atoms."""
    cores: Annotated[int, Field(ge=1)] = 1
    """Number of threads."""
    frames: tyro.conf.OmitArgPrefixes[Frames] = Frames()
    """Frames to use."""
    whole: bool = False
    """Make chains whole that the periodic box has broken; GetContacts does not."""
    skip_broken_frames: bool = False
    """Leave out frames that are damaged instead of stopping at them."""


def write_contacts(
    options: ContactOptions, topology: Topology, first: NDArray, frames: range, chunks: Iterable[Chunk], cores: int = 1
) -> None:
    """Write the contact file of frames; `first` (atoms, 3) is that of the trajectory, Angstrom."""
    itypes = ALL if "all" in options.itypes else tuple(dict.fromkeys(options.itypes))
    selections = selections_of(topology, options.sele, options.sele2, options.ligand, options.solv, options.lipid)
    search = ContactSearch(topology, first, itypes, options.criteria, selections)
    water = None
    if selections is not None and options.solv is not None and "hb" in itypes:
        water = WaterBridges(topology, first, options.criteria, selections)
    labels = atom_labels(topology)
    header = ContactHeader(len(frames), frames.start, frames.stop - 1, frames.step, itypes)

    def lines(number: int, frame: NDArray) -> list[str]:
        bridges = water.bridges(frame) if water else ()
        return contact_lines(number, search.contacts(frame), labels, bridges, frame if options.distout else None)

    with (
        whole_file(options.output) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
        ThreadPoolExecutor(cores) as pool,
        tqdm(total=len(frames), desc="contacts", unit="frame") as bar,
    ):
        written = 0
        file.write(f"{header}\n{COLUMNS_LINE}{DISTANCE_COLUMN if options.distout else ''}\n")
        if options.criteria.hydrogen_bond.hbond_of_heavy_atoms:
            file.write("# hydrogen bonds are those of heavy atoms (hbond_of_heavy_atoms)\n")
        for chunk in chunks:
            for text in pool.map(lines, chunk.numbers.tolist(), chunk.angstrom):
                file.writelines(text)
                written += 1
                bar.update()
        if written < len(frames):  # broken ones were left out
            file.seek(0)
            file.write(str(header._replace(total_frames=written)).ljust(len(str(header))))


def contacts_of_trajectory(options: Options) -> None:
    """Write the contact file of a trajectory."""
    topology = read_topology(options.topology)
    left_out: list[BrokenFrame] | None = [] if options.skip_broken_frames else None
    chosen, frames = options.frames.of(options.trajectory)
    first = first_frame(topology, options.trajectory, options.whole, chosen.end, left_out)
    chunks = read_chunks(topology, options.trajectory, chosen, whole=options.whole, left_out=left_out)
    write_contacts(options, topology, first, frames, chunks, options.cores)


main = partial(run, Options, contacts_of_trajectory, use_underscores=True, description=__doc__)

if __name__ == "__main__":
    main()
