"""Commands `dyna1.py` and `dyna1-esm2.py`: the options and files of the published programs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from model.choices import ESM_PACKAGE
from seqdance.options import DeviceOptions


@dataclass(frozen=True, kw_only=True)
class PublishedOptions(DeviceOptions):
    """Probability of micro- to millisecond exchange of each residue of a chain.

    Writes the table position, residue, p_exchange, with a row for each residue that has coordinates. The weights are
    read from model/weights/ or weights/ of the current folder, otherwise downloaded (gelnesr/Dyna-1); check their
    license. `seqdance dyna1 predict` has more options.
    """

    weights_name: ClassVar[str]
    suffix: ClassVar[str]  # of the default name
    suffix_of_name: ClassVar[str]  # of a given one

    name: str | None = None
    """Name of the files. Default: that of the structure, or sequence."""
    pdb: Path | None = None
    """PDB or mmCIF file, or the code of a PDB entry, which is downloaded."""
    chain: str = "A"
    """Chain of the structure; detect: the first protein chain."""
    sequence: str | None = None
    """Protein sequence; with --pdb: the sequence to put on that backbone, of the same length."""
    use_pdb_seq: bool = False
    """Use the sequence of the structure too. Default: the structure alone."""
    save_dir: Path = Path(".")
    """Folder for the files."""
    write_to_pdb: bool = False
    """Also write the chain as PDB file with the probabilities as B-factors."""
    weights: str | None = None
    """Other weights: file, folder or Hub id."""

    def __post_init__(self) -> None:
        require(self.sequence or self.pdb, "give --sequence or --pdb")
        require(self.pdb or not (self.write_to_pdb or self.use_pdb_seq), "--write_to_pdb and --use_pdb_seq need --pdb")


@dataclass(frozen=True, kw_only=True)
class Esm3Options(PublishedOptions):
    """Dyna-1 on ESM-3: sequence, structure, or both."""

    weights_name: ClassVar[str] = "dyna1.pt"
    suffix: ClassVar[str] = "-Dyna1"
    suffix_of_name: ClassVar[str] = "-Dyna1"


@dataclass(frozen=True, kw_only=True)
class Esm2Options(PublishedOptions):
    """Dyna-1 on ESM-2, which reads the sequence alone; of a structure, its sequence."""

    weights_name: ClassVar[str] = "dyna1-esm2.pt"
    suffix: ClassVar[str] = "-Dyna1_ESM2"
    suffix_of_name: ClassVar[str] = ""


def has_esm3() -> bool:
    """Whether the package of ESM-3 is installed."""
    return importlib.util.find_spec("esm") is not None


def predict(options: PublishedOptions) -> list[Path]:
    """Write the files; returns their paths."""
    from model.dyna1.published import run_published

    needs_esm3 = isinstance(options, Esm3Options) and options.weights is None
    install = f"pip install {ESM_PACKAGE} seqdance in an environment of its own"
    remedy = f"{install}, or run dyna1-esm2.py --sequence here"
    usable = not needs_esm3 or has_esm3()
    require(usable, f"dyna1.py reads ESM-3, and the package esm is not installed; {remedy}")
    return run_published(
        options.weights_name,
        options.sequence,
        options.pdb,
        None if options.chain == "detect" else options.chain,
        options.use_pdb_seq,
        options.save_dir,
        options.name and f"{options.name}{options.suffix_of_name}",
        options.suffix,
        options.write_to_pdb,
        options.weights,
        options.device,
    )


def main(options: type[PublishedOptions], args: Sequence[str] | None = None) -> None:
    """Entry point of both commands."""
    run(options, predict, args, use_underscores=True)


dyna1 = partial(main, Esm3Options)
dyna1_esm2 = partial(main, Esm2Options)
