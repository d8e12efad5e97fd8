"""Entries and stores for tests."""

from __future__ import annotations

import json

import h5py
import numpy as np

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.dataset.token_space import md_entry, nma_entry


def random_entry(tokens, widths=(47, 10), seed=0):
    """Random arrays of valid shapes."""
    rng = np.random.default_rng(seed)
    return (
        rng.random((tokens, widths[0]), dtype=np.float32),
        rng.random((tokens, tokens, widths[1]), dtype=np.float32),
    )


def real_entry(residues=70, kind="md", seed=0, chains=None):
    """An entry that passes all checks."""
    rng = np.random.default_rng(seed)
    chains = chains or [residues]
    correlation = np.corrcoef(rng.normal(size=(residues, 6)))
    if kind == "nma":
        return nma_entry(rng.random((3, residues)), np.stack([correlation] * 3), chains)
    residue = rng.random((residues, 47))
    for first, width in ((3, 8), (11, 12), (23, 12), (35, 12)):
        residue[:, first : first + width] /= residue[:, first : first + width].sum(axis=1, keepdims=True)
    residue[0, 23:35] = np.nan  # the first residue has no phi
    contacts = (rng.random((residues, residues, 9)) < 0.05) * rng.integers(1, 10, (residues, residues, 9)) / 10
    return md_entry(residue, np.concatenate([contacts, correlation[..., None]], axis=2), chains)


def write_store(path, dtype="float32", attributes=None, **entries):
    """A store of these entries."""
    with StoreWriter(path, dtype, attributes or {}) as writer:
        for name, entry in entries.items():
            writer.add(name, *entry)
    return path


def publish(path, **entries):
    """A file of the published form: contiguous, uncompressed, without a format attribute."""
    with h5py.File(path, "w") as file:
        for name, (residue, pair) in entries.items():
            file[f"{name}_res_feature"], file[f"{name}_pair_feature"] = residue, pair
    return path


def stored_bytes(path):
    """Every dataset as stored: dtype, chunks, filter, compressed chunks with their offsets."""
    with h5py.File(path) as file:
        found = {}
        for name, dataset in file.items():
            if dataset.chunks is None:
                found[name] = (dataset.dtype, dataset[()].tobytes())
                continue
            places = [dataset.id.get_chunk_info(k).chunk_offset for k in range(dataset.id.get_num_chunks())]
            chunks = [dataset.id.read_direct_chunk(place)[1] for place in places]
            found[name] = (dataset.dtype, dataset.chunks, dataset.id.get_create_plist().get_filter(0), places, chunks)
        return found


def without_properties(path, target, **missing):
    """A copy of a store in which some entries lack properties: name -> properties."""
    with FeatureStore(path) as store, StoreWriter(target) as writer:
        for name in store.names():
            attributes = {"missing_properties": json.dumps(missing[name])} if name in missing else {}
            writer.add(name, *store.read(name), attributes)
    return target
