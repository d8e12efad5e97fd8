"""In how many frames each pair of residues is in contact, from contact files, as GetContacts writes it.

get_contact_frequencies.py --input_files run1.tsv run2.tsv --output_file frequencies.tsv --itypes hb sb

A frame counts once for a pair, whatever the number of its contacts. The frames of all files count together.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings, run
from data_prepare.errors import InputError, reading, require
from data_prepare.files import check_output, whole_file
from data_prepare.molecular_dynamics.contacts.file_format import read_contacts, read_header
from data_prepare.properties import INTERACTIONS

OTHER_TYPES: Final = ("wb", "wb2", "lwb", "lwb2", "hls", "hlb", "br")  # of water, and of older contact files
Pair = tuple[str, str]  # of residues, in lexicographic order


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """Frequencies of contacts."""

    input_files: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Contact files, as of several replicas."""
    output_file: Path
    """Table to write (tab-separated)."""
    itypes: Annotated[tuple[str, ...], Field(min_length=1)] = ("all",)
    """Types of the lines to count, or hb for hbbb, hbsb and hbss; all: each line."""
    label_file: Path | None = None
    """Tab-separated residue and label: count only these residues, under their labels."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        """Refuse unknown types, and an output that cannot be written."""
        from data_prepare.molecular_dynamics.contacts.ligand import LINE_TYPES

        known = ("all", "hb", *LINE_TYPES, *OTHER_TYPES)
        if unknown := [name for name in self.itypes if name not in known]:
            raise InputError(f"--itypes {' '.join(unknown)}: unknown; expected some of {' '.join(known)}")
        check_output(self.output_file)


def count_frames_in_contact(path: Path, itypes: set[str], labels: dict[str, str] | None) -> tuple[int, dict[Pair, int]]:
    """Frames of a contact file, and those in which each pair of residues is in contact by some of the types.

    Memory grows with the pairs, not with the frames. InputError if the file lacks a type, a line is malformed, or its
    frame is outside the range in the header or before that of an earlier line.
    """
    from data_prepare.molecular_dynamics.contacts.search import single_interactions

    header = read_header(path)
    missing = (itypes & set(INTERACTIONS)) - single_interactions(header.interaction_types)
    require(
        not missing, f"{path}: lacks the interactions {', '.join(sorted(missing))}; omit them or make the file again"
    )
    frames, total = header.frames, header.total_frames
    counts: dict[Pair, int] = {}
    latest: dict[Pair, int] = {}  # last frame that counted
    now, different = -1, 0  # frames of lines
    for frame, interaction, *atoms in read_contacts(path):
        if frame not in frames:
            raise InputError(f"{path}: frame {frame} is outside the range in the header; make the file again")
        if frame < now:
            raise InputError(f"{path}: frame {frame} stands after frame {now}; sort the lines with sort -s -n -k1,1")
        now, different = frame, different + (frame != now)
        residues = [atom.rsplit(":", 1)[0] for atom in atoms]
        if labels is not None:
            residues = [labels[residue] for residue in residues if residue in labels]
        if len(residues) < 2 or ("all" not in itypes and interaction not in itypes):
            continue
        pair = min(residues), max(residues)
        if latest.get(pair) != frame:
            latest[pair] = frame
            counts[pair] = counts.get(pair, 0) + 1
    require(different <= total, f"{path}: has lines of {different} of {total} frames; make the file again")
    return total, counts


def read_labels(path: Path) -> dict[str, str]:
    """Residue -> label; further columns, empty lines and lines that begin with # are ignored."""
    labels = {}
    with reading(path, "a table of residues and labels"), open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.startswith("#"):
                fields = line.rstrip("\n").split("\t")
                require(len(fields) > 1, f"{path}: line {number} has no label; expected residue, tab, label")
                labels[fields[0]] = fields[1]
    return labels


def write_frequencies(options: Options) -> None:
    """Write the table of residue 1, residue 2 and the fraction of frames."""
    from data_prepare.molecular_dynamics.contacts.search import single_interactions

    labels = None if options.label_file is None else read_labels(options.label_file)
    types = [single_interactions(read_header(path).interaction_types) for path in options.input_files]
    for path, own in zip(options.input_files, types, strict=True):
        differ = "all" in options.itypes and own != types[0]
        problem = f"{path}: other interaction types than {options.input_files[0]}; choose common ones with --itypes"
        require(not differ, problem)
    itypes = {"all"} if "all" in options.itypes else single_interactions(options.itypes)
    total, counts = 0, dict[Pair, int]()
    for path in options.input_files:
        frames, found = count_frames_in_contact(path, itypes, labels)
        total += frames
        for pair, number in found.items():
            counts[pair] = counts.get(pair, 0) + number
    with whole_file(options.output_file) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(f"#\ttotal_frames:{total}\tinteraction_types:{','.join(options.itypes)}\n")
        file.write("#\tColumns:\tresidue_1,\tresidue_2\tcontact_frequency\n")
        for (first, second), number in counts.items():
            file.write(f"{first}\t{second}\t{number / total:.3f}\n")


main = partial(run, Options, write_frequencies, use_underscores=True, description=__doc__)

if __name__ == "__main__":
    main()
