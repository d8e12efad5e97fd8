"""Options that `seqdance dyna1 predict` and `embed` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from seqdance.options import DeviceOptions, ProteinOptions

if TYPE_CHECKING:
    from model.dyna1.embeddings.source import ChainInput


@dataclass(frozen=True, kw_only=True)
class ChainOptions(DeviceOptions, ProteinOptions):
    """Single chains: by sequence, by structure, or a sequence on the backbone of a structure."""

    sequence: str | None = None
    """One sequence. With a structure: the sequence to put on its backbone, of the same length."""
    chain: str | None = None
    """Chain of the structure; required if it has several."""
    use_pdb_seq: bool = False
    """With --pdb or --cif: use the sequence of the structure too. Default: the structure alone."""
    name: str | None = None
    """Name of a single protein. Default: from the input."""

    def chains(self) -> list[ChainInput]:
        """The chains; InputError unless exactly one source is given and can be read."""
        from model.dyna1.embeddings.chains import chain_inputs

        given = (self.sequence, self.fasta, self.pdb, self.cif)
        return chain_inputs(*given, self.chain, self.use_pdb_seq, self.name)
