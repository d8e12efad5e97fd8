"""Options that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings
from data_prepare.errors import require, some_of
from model.config import Precision

FigureFormat: TypeAlias = Literal["png", "pdf", "svg"]

if TYPE_CHECKING:
    from model.inference.inputs import Protein


@dataclass(frozen=True, kw_only=True)
class CommandOptions(Settings):
    """Options of every command."""

    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(CommandOptions):
    """Where a network runs."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto uses a GPU if one is available; mps is that of a Mac."""


@dataclass(frozen=True, kw_only=True)
class ForwardOptions(DeviceOptions):
    """Where and how a network runs."""

    precision: Precision = "auto"
    """Of the forward pass; results are float32. auto: fp32 on a CPU or a Mac, bf16 on another GPU that supports it,
    else fp16."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ForwardOptions):
    """A network and where it runs."""

    model: str
    """seqdance or esmdance (published, downloaded once), demo (small, part of this package, not for conclusions), a
    folder with model.safetensors and config.json, a weight file, the folder of a training run, or a Hub id. ./demo is a
    folder."""


@dataclass(frozen=True, kw_only=True)
class ProteinOptions(Settings):
    """Exactly one source of protein sequences."""

    sequence: str | None = None
    """One protein; join the chains of a complex with : or <eos><cls>."""
    fasta: Path | None = None
    """Proteins of a FASTA file (.gz too); a typed one of Boltz or Chai is a complex, an a3m its first sequence."""
    pdb: Path | None = None
    """Sequence of a PDB file (.gz too), unresolved residues included."""
    cif: Path | None = None
    """Sequence of an mmCIF file (.gz too)."""
    chain: str | None = None
    """Chain of the structure, or several separated by commas. Default: all protein chains."""

    @property
    def structure(self) -> Path | None:
        """The structure file, if one is given."""
        return self.pdb or self.cif

    def check_write_pdb(self, path: Path | None) -> None:
        """InputError if a copy of the structure cannot be written to the path of --write-pdb, if there is one."""
        from model.inference.b_factors import check_copy

        if path is not None:
            require(self.structure, f"--write-pdb {path} requires --pdb or --cif")
            check_copy(self.structure or path, path)

    def proteins(self) -> list[Protein]:
        """The proteins; InputError unless exactly one source is given and can be read."""
        from model.inference.inputs import proteins_of

        proteins = proteins_of(self.sequence, self.fasta, self.pdb, self.cif, self.chain)
        chains = list(dict.fromkeys(residue.chain for own in proteins for residue in own.structure_ids or ()))
        if len(chains) > 1 and self.chain is None:
            how = f"chains {some_of(chains)} are read as one complex; --chain {chains[0]} for one"
            print(f"note: {self.structure}: {how}", file=sys.stderr)
        return proteins
