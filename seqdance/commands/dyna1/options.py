"""Options that `seqdance dyna1 predict` and `embed` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass

from seqdance.options import ProteinOptions

if TYPE_CHECKING:
    from model.dyna1.embeddings.source import ChainInput


@dataclass(frozen=True, kw_only=True)
class ChainOptions(ProteinOptions):
    """Single chains: by sequence, by structure, or a sequence on the backbone of a structure."""

    sequence: str | None = None
    """One sequence; with a structure the sequence to put on its backbone, equally long."""
    chain: str | None = None
    """Chain of the structure. Default: its only one."""
    use_pdb_seq: bool = False
    """With --pdb or --cif: the model sees the sequence too; without it the structure alone."""
    name: str | None = None
    """Name of a single protein. Default: from the input."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto uses a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""

    def chains(self) -> list[ChainInput]:
        """The chains; raises InputError unless exactly one source is given and can be read."""
        from model.dyna1.embeddings.chains import chain_inputs

        given = (self.sequence, self.fasta, self.pdb, self.cif)
        return chain_inputs(*given, self.chain, self.use_pdb_seq, self.name)
