"""Embeddings of frozen models in a file: computed once, read by training, evaluation and prediction.

The HDF5 file contains `values` (residues of all proteins, width) float32 or float16, one protein after the other, and
for each protein `name`, `sequence`, `inputs` (what the model saw: sequence, structure or both) and `structure` (digest
of the backbone). Attributes are the format, the fingerprint of the embedder and whether it reads structures.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data_prepare.errors import reading, require
from data_prepare.files import new_hdf5, open_hdf5, own_array, read_attributes, whole_file, write_attributes
from data_prepare.resume import Results, digest
from model.dyna1.embeddings.source import ChainInput, Embedder, EmbeddingSource
from model.inference.batches import length_batches

FORMAT: Final = "dyna1 embeddings 1"
TEXTS: Final = ("name", "sequence", "inputs", "structure")  # of each protein
MAX_RESIDUES: Final = 4096  # per batch, including padding
KIND: Final = "a cache of embeddings"
REMEDY: Final = "remove it and write it again with seqdance dyna1 embed"
CacheDtype: TypeAlias = Literal["float32", "float16"]


class EmbeddingCache(EmbeddingSource):
    """Reads a file of `write_cache`; InputError if it is missing or damaged."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with reading(self.path, KIND, REMEDY), open_hdf5(self.path) as file:
            attributes = read_attributes(file)
            require(attributes.get("format") == FORMAT, f"{path}: not {KIND}; {REMEDY}")
            self.fingerprint = str(attributes["fingerprint"])
            self.reads_structure = bool(attributes["reads_structure"])
            values = self._array(file, "values")
            self.dtype = values.dtype
            residues, self.width = values.shape
            rows = list(zip(*(self._array(file, name).asstr()[:] for name in TEXTS), strict=True))
        self.proteins = {name: (sequence, inputs, structure) for name, sequence, inputs, structure in rows}
        lengths = [len(sequence) for sequence, _, _ in self.proteins.values()]
        whole = (self.dtype.kind, residues) == ("f", sum(lengths))
        require(whole, f"{path}: damaged ({residues} rows of {self.dtype} for {sum(lengths)} residues); {REMEDY}")
        self._end = dict(zip(self.proteins, np.cumsum(lengths, dtype=np.int64).tolist(), strict=True))

    def _array(self, file: h5py.File, name: str) -> h5py.Dataset:
        return h5py.Dataset(own_array(file, name, self.path, REMEDY)[0], readonly=True)

    def __contains__(self, name: str) -> bool:
        return name in self.proteins

    def read(self, name: str, sequence: str) -> Tensor:
        """As `EmbeddingSource.read`; InputError if the file lacks the protein or has another sequence of it."""
        require(name in self.proteins, f"{self.path}: no embedding of {name}; add it with seqdance dyna1 embed")
        same = self.proteins[name][0] == sequence
        require(same, f"{self.path}, {name}: embedding of another sequence; rename it, or {REMEDY}")
        end = self._end[name]
        with reading(self.path, KIND, REMEDY), open_hdf5(self.path) as file:
            return torch.from_numpy(self._array(file, "values")[end - len(sequence) : end].astype(np.float32))

    def read_chain(self, chain: ChainInput) -> Tensor:
        """The same; also raises InputError if the model saw something else of this protein."""
        values = self.read(chain.name, chain.sequence)
        (_, inputs, structure), (_, wanted, backbone) = self.proteins[chain.name], self.visible(chain).seen
        where = f"{self.path}, {chain.name}: made from"
        require(inputs == wanted, f"{where} {inputs}, not from {wanted}; rename the protein and add it")
        require(structure == backbone, f"{where} another structure; rename the protein and add it")
        return values


def write_cache(
    path: str | os.PathLike[str], embedder: Embedder, chains: Sequence[ChainInput], dtype: CacheDtype = "float32"
) -> None:
    """Write the embeddings of chains, or add those that a file lacks. Shows a progress bar; a rerun resumes.

    InputError if names are not unique, the file is of another embedder or dtype or has another protein of the same
    name, or an embedding exceeds the range of float16.
    """
    path, chains = Path(path), [embedder.visible(chain) for chain in chains]
    require(chains, f"{path}: no proteins to embed; give at least one")
    name, number = Counter(chain.name for chain in chains).most_common(1)[0]
    require(number == 1, f"duplicate protein {name}; rename one")
    old = EmbeddingCache(path) if path.exists() else None
    if old:
        mine, theirs = embedder.fingerprint, old.fingerprint
        require(mine == theirs, f"{path}: embeddings of {theirs}, not of {mine}; give another file")
        require(old.dtype == dtype, f"{path}: stored as {old.dtype}, not {dtype}; change --dtype or give another file")
        for chain in chains:
            same = chain.name not in old or old.proteins[chain.name] == chain.seen
            require(same, f"{path}: has another protein named {chain.name}; rename it or give another file")
    added = [chain for chain in chains if old is None or chain.name not in old]
    if not added:
        return
    results = Results(path)
    keys = {chain.name: digest(embedder.fingerprint, dtype, chain.name, *chain.seen) for chain in added}
    missing = [chain for chain in added if results.read(keys[chain.name]) is None]
    lengths = [len(chain.sequence) for chain in missing]
    with tqdm(total=sum(lengths), unit="residue", unit_scale=True) as bar:
        for indices in length_batches(lengths, None, lambda n: MAX_RESIDUES // n):
            batch = [missing[index] for index in indices]
            for chain, values in zip(batch, embedder.embed_chains(batch), strict=True):
                with np.errstate(over="ignore"):
                    stored = values.numpy().astype(dtype)
                fits = np.isfinite(stored).all()
                require(fits, f"{chain.name}: its embedding exceeds the range of {dtype}; use float32")
                results.write(keys[chain.name], values=stored)
                bar.update(len(stored))
    rows = [(name, *seen) for name, seen in old.proteins.items()] if old else []
    rows += [(chain.name, *chain.seen) for chain in added]
    with whole_file(path) as temporary, new_hdf5(temporary) as (file, check):
        own = {"format": FORMAT, "fingerprint": embedder.fingerprint, "reads_structure": embedder.reads_structure}
        write_attributes(file, own)
        for name, column in zip(TEXTS, zip(*rows, strict=True), strict=True):
            texts = [text.encode() for text in column]
            fixed = h5py.string_dtype(length=max(1, *map(len, texts)))  # damage to others can hang HDF5
            file.create_dataset(name, data=np.array(texts, fixed), compression="gzip")
        values = file.create_dataset("values", (sum(len(row[1]) for row in rows), embedder.width), dtype)
        end = 0
        for name, sequence, *_ in rows:
            start, end = end, end + len(sequence)
            part = results.read(keys[name]) if name in keys else None
            values[start:end] = part["values"] if part else old.read(name, sequence)  # type: ignore[union-attr]
            check()
    results.remove()
