"""Embeddings of frozen models kept in a file: computed once, read by training, evaluation and prediction.

    seqdance dyna1 embed --embedder esm2 --table labels.csv --output esm2.h5

The HDF5 file holds `values` (residues of all entries, width) float32 or float16, one entry after the other, and for
each entry `name`, `sequence`, `inputs` (what the model saw: sequence, structure or both) and `structure` (digest of the
backbone). Attributes name the format, the fingerprint of the embedder and whether it reads structures. Files of another
embedder, and entries of another sequence, are refused. Until all is done, each entry is a file of its own beside it, so
that a killed run loses nothing that it has finished; what the file has already is not computed again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias
from zipfile import BadZipFile

import h5py
import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from data_prepare.errors import InputError, first_line, run_command
from data_prepare.files import read_text_table, whole_file
from model.dyna1.embeddings.chains import ChainInput, chain_inputs, embed_chains, put_sequence, read_chain
from model.dyna1.embeddings.source import Embedder, EmbeddingSource
from model.inference.batches import length_batches
from model.inference.inputs import RESIDUE_LETTERS

FORMAT: Final = "dyna1 embeddings 1"
TEXTS: Final = ("name", "sequence", "inputs", "structure")  # of each entry
MAX_RESIDUES: Final = 4096  # of a batch, padding included
CacheDtype: TypeAlias = Literal["float32", "float16"]


class EmbeddingCache(EmbeddingSource):
    """A file of embeddings, for reading.

    Parameters
    ----------
    path
        As `write_cache` writes it.

    Raises
    ------
    InputError
        The file is missing, damaged, or something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path}: no such cache; write it with seqdance dyna1 embed")
        try:
            with h5py.File(self.path) as file:
                if file.attrs.get("format") != FORMAT:
                    raise InputError(f"{path}: not a cache of embeddings; write one with seqdance dyna1 embed")
                self.fingerprint = str(file.attrs["fingerprint"])
                self.reads_structure = bool(file.attrs["reads_structure"])
                residues, self.width = file["values"].shape
                self.dtype = file["values"].dtype
                if self.dtype.kind != "f":
                    raise ValueError(f"values are {self.dtype}, not floats")
                texts = list(zip(*(file[name].asstr()[:] for name in TEXTS), strict=True))
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:  # the last: groups, not datasets
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: damaged ({first_line(error)}); remove it and write it again") from None
        self.entries = {name: (sequence, inputs, structure) for name, sequence, inputs, structure in texts}
        ends = np.cumsum([len(sequence) for sequence, _, _ in self.entries.values()], dtype=np.int64)
        self._end = dict(zip(self.entries, ends.tolist(), strict=True))
        if residues != (ends[-1] if len(ends) else 0):
            raise InputError(f"{path}: damaged ({residues} rows of values); remove it and write it again")

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def check(self, embedder: str) -> None:
        """See that the embeddings are of an embedder with this fingerprint; InputError if they are not."""
        if self.fingerprint != embedder:
            raise InputError(f"{self.path}: embeddings of {self.fingerprint}, not of {embedder}; name another file")

    def read(self, name: str, sequence: str) -> Tensor:
        """Embedding of an entry, (L, width) float32.

        Raises
        ------
        InputError
            The entry is not there, or has another sequence.
        """
        if name not in self.entries:
            raise InputError(f"{self.path}: no embedding of {name}; add it with seqdance dyna1 embed")
        if self.entries[name][0] != sequence:
            raise InputError(
                f"{self.path}, {name}: embedding of another sequence; remove the file and write it again, or rename "
                "the entry"
            )
        end = self._end[name]
        try:
            with h5py.File(self.path) as file:
                return torch.from_numpy(file["values"][end - len(sequence) : end].astype(np.float32))
        except (OSError, KeyError) as error:
            raise InputError(
                f"{self.path}, {name}: damaged ({first_line(error)}); remove it and write it again"
            ) from None

    def read_entry(self, entry: ChainInput) -> Tensor:
        """The same, for what the model saw of this entry; InputError if it saw something else."""
        values = self.read(entry.name, entry.sequence)
        _, inputs, structure = self.entries[entry.name]
        if inputs != entry.inputs:
            raise InputError(f"{self.path}, {entry.name}: made from {inputs}, asked for {entry.inputs}; adapt the call")
        if structure != entry.structure_digest:
            raise InputError(f"{self.path}, {entry.name}: made from another structure; rename the entry and add it")
        return values


def write_cache(
    path: str | os.PathLike[str], embedder: Embedder, entries: Sequence[ChainInput], dtype: CacheDtype = "float32"
) -> None:
    """Write the embeddings of entries, or add those that a file lacks. Shows a progress bar.

    Parameters
    ----------
    path
        The HDF5 file.
    embedder
        Computes them.
    entries
        Names must differ.
    dtype
        Of the file; float16 halves it and keeps three digits.

    Raises
    ------
    InputError
        The file is of another embedder or dtype or has another entry of the same name, a name occurs twice, or an
        embedding does not fit float16. What is done by then stays.
    """
    path = Path(path)
    old = EmbeddingCache(path) if path.exists() else None
    pending = _pending(path, old, embedder, entries, dtype)
    folder = path.with_name(f".{path.name}.parts")
    part_of = {entry.name: folder / f"{_digest(embedder.fingerprint, dtype, entry)}.npy" for entry in pending}
    missing = [
        entry for entry in pending if not _is_whole(part_of[entry.name], (len(entry.sequence), embedder.width), dtype)
    ]
    with tqdm(total=sum(len(entry.sequence) for entry in missing), unit="residue", unit_scale=True) as bar:
        for places in length_batches([len(entry.sequence) for entry in missing], None, lambda n: MAX_RESIDUES // n):
            batch = [missing[place] for place in places]
            for entry, values in zip(batch, embed_chains(embedder, batch), strict=True):
                with np.errstate(over="ignore"):
                    stored = values.numpy().astype(dtype)
                if not np.isfinite(stored).all():
                    raise InputError(f"{entry.name}: numbers of its embedding do not fit {dtype}; use float32")
                with whole_file(part_of[entry.name]) as temporary:
                    np.save(temporary, stored)
                bar.update(len(entry.sequence))
    if pending:
        _merge(path, embedder, dtype, old, pending, part_of)
    for part in part_of.values():
        part.unlink()
    if folder.exists() and not any(folder.glob("[!.]*.npy")):  # of a killed run that had other entries
        shutil.rmtree(folder)


def _pending(
    path: Path, old: EmbeddingCache | None, embedder: Embedder, entries: Sequence[ChainInput], dtype: CacheDtype
) -> list[ChainInput]:
    """Entries that the old file lacks; InputError if they do not go together with it."""
    if not entries:
        raise InputError(f"{path}: no entries to embed; give at least one")
    names: set[str] = set()
    for entry in entries:
        if entry.name in names:
            raise InputError(f"entry {entry.name} occurs twice; rename one")
        names.add(entry.name)
    if old is None:
        return list(entries)
    old.check(embedder.fingerprint)
    if old.dtype != dtype:
        raise InputError(f"{path}: holds {old.dtype}, asked for {dtype}; choose that of the file or another file")
    for entry in entries:
        if entry.name in old and old.entries[entry.name] != _texts(entry):
            raise InputError(f"{path}: has another entry of the name {entry.name}; rename it or choose another file")
    return [entry for entry in entries if entry.name not in old]


def _texts(entry: ChainInput) -> tuple[str, str, str]:
    return entry.sequence, entry.inputs, entry.structure_digest


def _digest(fingerprint: str, dtype: str, entry: ChainInput) -> str:
    """Name of the file of an entry that waits for the others."""
    return hashlib.blake2b("\n".join((fingerprint, dtype, entry.name, *_texts(entry))).encode()).hexdigest()[:32]


def _is_whole(part: Path, shape: tuple[int, int], dtype: str) -> bool:
    """Whether the file of an entry is there and not damaged; reads its header alone."""
    try:
        stored = np.load(part, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile):
        return False
    return isinstance(stored, np.ndarray) and (stored.shape, stored.dtype) == (shape, np.dtype(dtype))


def _merge(
    path: Path,
    embedder: Embedder,
    dtype: CacheDtype,
    old: EmbeddingCache | None,
    added: Sequence[ChainInput],
    part_of: dict[str, Path],
) -> None:
    """Old file and new entries -> one file, an entry at a time."""
    texts = {name: list(values) for name, values in old.entries.items()} if old else {}
    texts |= {entry.name: list(_texts(entry)) for entry in added}

    def arrays() -> Iterator[np.ndarray]:
        if old:
            with h5py.File(old.path) as file:
                end = 0
                for sequence, _, _ in old.entries.values():
                    start, end = end, end + len(sequence)
                    yield file["values"][start:end]
        for entry in added:
            yield np.load(part_of[entry.name])

    with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["fingerprint"] = embedder.fingerprint
        file.attrs["reads_structure"] = embedder.reads_structure
        for column, name in enumerate(TEXTS):
            values = list(texts) if column == 0 else [row[column - 1] for row in texts.values()]
            file.create_dataset(name, data=values, dtype=h5py.string_dtype())
        residues = sum(len(sequence) for sequence, _, _ in texts.values())
        stored = file.create_dataset("values", (residues, embedder.width), dtype)
        end = 0
        for array in arrays():
            stored[end : end + len(array)] = array
            end += len(array)


@dataclass(frozen=True)
class EmbedConfig:
    """Keep embeddings of a frozen model for training and prediction of Dyna-1.

    Check the terms of the weights that you load.
    """

    embedder: str
    """onehot, esm2[:PATH][:LAYER], dance:PATH, or esm3[:LAYER]."""
    output: Path
    """The .h5 file. Entries that it has already are passed over."""
    table: Path | None = None
    """Entries of a label table (columns entry_ID and sequence)."""
    fasta: Path | None = None
    """Entries of a FASTA file."""
    sequence: str | None = None
    """One entry; with a structure the sequence to put on its backbone."""
    structures: Path | None = None
    """With --table or --fasta: folder of NAME.pdb or NAME.cif (.gz too), one chain each. Both are seen."""
    pdb: Path | None = None
    """One chain of a PDB file (.gz too)."""
    cif: Path | None = None
    """One chain of an mmCIF file (.gz too)."""
    chain: str | None = None
    """Which. Default: the only one."""
    use_pdb_seq: bool = False
    """With --pdb or --cif: the model sees the sequence too; without it the structure alone."""
    name: str | None = None
    """Name of a single entry. Default: from the file."""
    dtype: CacheDtype = "float32"
    """float16 halves the file and keeps three digits."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""


def embed(config: EmbedConfig) -> Path:
    """Write the cache and return its path."""
    if config.table:
        if config.fasta or config.sequence is not None or config.pdb or config.cif:
            raise InputError(f"--table {config.table} and other entries are given; give one of them")
        for option in ("chain", "use_pdb_seq", "name"):
            if getattr(config, option) not in (None, False):
                word = option.replace("_", "-")
                raise InputError(f"--{word} does not go with --table {config.table}; leave it out")
        entries = read_table(config.table)
    else:
        given = (config.sequence, config.fasta, config.pdb, config.cif)
        entries = chain_inputs(*given, config.chain, config.use_pdb_seq, config.name)
    from model.dyna1.embeddings.embedders import make_embedder

    embedder = make_embedder(config.embedder, config.device)
    if not isinstance(embedder, Embedder):
        raise InputError(f"--embedder {config.embedder}: these are files already; there is nothing to keep")
    if config.structures:
        entries = [_with_structure(entry, config.structures) for entry in entries]
    if not embedder.reads_structure and any(entry.backbone is not None for entry in entries):
        print(f"{config.embedder} reads no structure: it sees the sequence of the chain")
        entries = [entry.sequence_alone() for entry in entries]
    write_cache(config.output, embedder, entries, config.dtype)
    return config.output


def read_table(path: Path) -> list[ChainInput]:
    """Entries of a table with columns entry_ID and sequence, without structures.

    Raises
    ------
    InputError
        The table cannot be read or is empty, a name is missing or occurs twice, or a sequence cannot be used.
    """
    table = read_text_table(path, ["entry_ID", "sequence"])
    if table.empty:
        raise InputError(f"{path}: no entries in it; add one")
    entries: dict[str, ChainInput] = {}
    for row, (name, sequence) in enumerate(zip(table["entry_ID"], table["sequence"], strict=True), start=1):
        if not name.strip():
            raise InputError(f"{path}: row {row} has no entry_ID; name it")
        if name in entries:
            raise InputError(f"{path}: entry {name} occurs twice; rename one")
        if not sequence:
            raise InputError(f"{path}: entry {name} has no sequence; add it or leave the entry out")
        if unknown := sorted(set(sequence) - RESIDUE_LETTERS):
            letters = "".join(unknown)
            raise InputError(
                f"{path}: entry {name}: {letters!r} in its sequence is no residue; write one chain in upper case, "
                "unknown residues as X"
            )
        entries[name] = ChainInput(name, sequence)
    return list(entries.values())


def _with_structure(entry: ChainInput, folder: Path) -> ChainInput:
    """The entry with the backbone of its file."""
    from data_prepare.structure.readers import STRUCTURE_SUFFIXES  # brings gemmi

    paths = [folder / f"{entry.name}{suffix}{gz}" for suffix in STRUCTURE_SUFFIXES for gz in ("", ".gz")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise InputError(f"{folder}: no structure of {entry.name} ({entry.name}.pdb, .cif, ...); add it")
    chain = read_chain(path)
    return put_sequence(replace(chain, name=entry.name), entry.sequence, str(path))


def main(args: Sequence[str] | None = None) -> None:
    """ChainInput point of the command."""
    config = tyro.cli(EmbedConfig, args=args)
    print(run_command(lambda: embed(config), config.debug))


if __name__ == "__main__":
    main()
