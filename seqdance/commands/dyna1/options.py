"""Options that `seqdance dyna1 predict` and `embed` share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic.dataclasses import dataclass

from seqdance.options import DeviceOptions, ProteinOptions

if TYPE_CHECKING:
    from model.dyna1.embeddings.source import ChainInput


@dataclass(frozen=True, kw_only=True)
class ChainOptions(DeviceOptions, ProteinOptions):
    """Single chains: by sequence, by structure, or a sequence on the backbone of a structure."""

    sequence: str | None = None
    """One sequence. With a structure: the sequence to put on its backbone, of the same length."""
    pdb: Path | None = None
    """PDB file (.gz too), or the code of a PDB entry (1UBQ), which is downloaded."""
    chain: str | None = None
    """Chain of the structure. Default: the first protein chain."""
    use_pdb_seq: bool = False
    """With --pdb or --cif: use the sequence of the structure too. Default: the structure alone."""
    name: str | None = None
    """Name of a single protein. Default: from the input."""

    def with_structure(self, folder: Path) -> Self:
        """The same with the file of the PDB entry that --pdb names, downloaded to `folder`."""
        from model.dyna1.embeddings.chains import fetch_structure

        return replace(self, pdb=fetch_structure(self.pdb, folder)) if self.pdb else self

    def chains(self) -> list[ChainInput]:
        """The chains; InputError unless exactly one source is given and can be read."""
        from model.dyna1.embeddings.chains import chain_inputs

        given = (self.sequence, self.fasta, self.pdb, self.cif)
        return chain_inputs(*given, self.chain, self.use_pdb_seq, self.name)
