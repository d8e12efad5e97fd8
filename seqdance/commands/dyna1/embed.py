"""Command `seqdance dyna1 embed`: embeddings of a frozen model for training and prediction of Dyna-1."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import InputError, require
from data_prepare.files import check_output
from seqdance.commands.dyna1.options import ChainOptions


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(ChainOptions):
    """Write embeddings of a frozen model for training and prediction of Dyna-1.

    Rerun the same command to resume an interrupted run. Check the license of the weights that you load.
    """

    embedder: str
    """onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], or esmc[:NAME][:LAYER]."""
    output: Path
    """The .h5 file. Proteins that it already contains are skipped."""
    table: Path | None = None
    """Proteins of a table (columns entry_ID and sequence)."""
    structures: Path | None = None
    """With --table or --fasta: folder of NAME.pdb or NAME.cif (.gz too), one chain each, that the model reads too."""
    dtype: Literal["float32", "float16"] = "float32"
    """float16 halves the file size; three significant digits."""

    def __post_init__(self) -> None:
        check_output(self.output)
        others = ("sequence", "fasta", "pdb", "cif", "chain", "use_pdb_seq", "name")
        given = [f"--{option.replace('_', '-')}" for option in others if getattr(self, option) not in (None, False)]
        require(not (self.table and given), f"--table {self.table} names all proteins; remove {' and '.join(given)}")


def embed(options: EmbedOptions) -> Iterator[object]:
    """Write the cache; yields notes and its path."""
    from model.dyna1.embeddings.cache import write_cache
    from model.dyna1.embeddings.chains import add_structure, read_table
    from model.dyna1.embeddings.embedders import make_embedder
    from model.dyna1.embeddings.source import Embedder

    options = options.with_structure(options.output.parent)
    chains = read_table(options.table) if options.table else options.chains()
    embedder = make_embedder(options.embedder, options.device)
    if not isinstance(embedder, Embedder):
        raise InputError(f"--embedder {options.embedder}: these embeddings are files already; give another embedder")
    if options.structures:
        chains = [add_structure(chain, options.structures) for chain in chains]
    if not embedder.reads_structure and any(chain.backbone is not None for chain in chains):
        yield f"{options.embedder} reads no structure; only the sequence of the chain is used"
    write_cache(options.output, embedder, chains, options.dtype)
    yield options.output


main = partial(run, EmbedOptions, embed)
