"""Readers of features, structures, trajectories and the tables of a data set, as in readers.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import gemmi
import h5py
import mdtraj
import numpy as np
import pandas as pd
import torch
from reader import Reader, text

from data_prepare.dataset.check import check_store
from data_prepare.dataset.loss_weights import baselines, loss_weights, read_loss_weights, write_loss_weights
from data_prepare.dataset.splits import read_clusters
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_layout import SUFFIXES
from data_prepare.dataset.store_writer import StoreWriter, merge_stores
from data_prepare.dataset.table import read_table
from data_prepare.dataset.token_space import md_entry, nma_entry
from data_prepare.molecular_dynamics.features.contacts import contacts_of_file
from data_prepare.molecular_dynamics.features.md_features import MDFeatures, md_features
from data_prepare.molecular_dynamics.frames.trajectory import count_frames, read_chunks
from data_prepare.molecular_dynamics.get_contact_frequencies import count_frames_in_contact, read_labels
from data_prepare.properties import GROUPS, INTERACTIONS, PROPERTIES
from data_prepare.sources.entry import Selection
from data_prepare.sources.manifest import read_manifest
from data_prepare.sources.registry import list_source
from data_prepare.structure.readers import read_models, read_structure, read_topology
from data_prepare.structure.topology import Topology, label_of_residue
from model.config import ModelConfig
from model.dyna1.embeddings.cache import EmbeddingCache, write_cache
from model.dyna1.embeddings.embedders import OneHot
from model.dyna1.embeddings.source import ChainInput
from model.evaluation.measurement import read_measurement
from model.network.dance import DanceModel, load_esm2_encoder

EXAMPLE = Path(__file__).resolve().parents[2] / "data_prepare" / "examples" / "trajectories" / "helix_aeaaak"
FRAMES = 3
SIZES = ModelConfig(hidden=8, layers=1, heads=2, feed_forward=8)
SPREAD = json.dumps({"sasa_mean": 0.5, "corr": 0.25})


def _entries() -> dict[str, tuple[Any, Any]]:
    random = np.random.default_rng(0)
    correlation = np.corrcoef(random.normal(size=(9, 6)))
    pair = np.concatenate([random.random((9, 9, 9)) < 0.1, correlation[..., None]], axis=2)
    md = md_entry(random.random((9, 47)), pair, [9])
    return {"md": md, "nma": nma_entry(random.random((3, 9)), np.stack([correlation] * 3), [9])}


def _store(path: Path) -> None:
    with StoreWriter(path) as store:
        store.add("md", *_entries()["md"], {"modify_seq": "MKTAYIAKQ", "spread": SPREAD, "missing_properties": "[]"})
        store.add("nma", *_entries()["nma"], {"modify_seq": "MKTAYIAKQ"})


def _published(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, arrays in _entries().items():
            for suffix, values in zip(SUFFIXES, arrays, strict=True):
                file[f"{name}{suffix}"] = values


def _read_store(path: Path) -> list[Any]:
    with FeatureStore(path) as store:
        names = store.names()
        read = [(store.attributes_of(name), store.read(name), store.as_properties(name)) for name in names]
        return [store.attributes, store.version, *read]


def _weigh(path: Path) -> Any:
    rows = {"name": ["md", "nma"], "group": [GROUPS[0], GROUPS[2]], "label": "train"}
    return loss_weights(baselines(FeatureStore(path), pd.DataFrame(rows)))


def _merge(path: Path, dtype: Any) -> None:
    merge_stores([path], path.with_name("merged.h5"), dtype)


@cache
def _trajectory() -> mdtraj.Trajectory:
    return mdtraj.load(str(EXAMPLE.with_suffix(".xtc")), top=str(EXAMPLE.with_suffix(".pdb")))[:FRAMES]


@cache
def _topology() -> Topology:
    return read_topology(EXAMPLE.with_suffix(".pdb"))


def _known_topology(_: Path) -> None:
    """Read the topology before the processes of the rounds begin."""
    _topology()


def _saved(path: Path) -> None:
    _trajectory().save(str(path))


def _mmcif(path: Path) -> None:
    gemmi.read_structure(str(EXAMPLE.with_suffix(".pdb"))).make_mmcif_document().write_file(str(path))


def _psf(path: Path) -> None:
    lines = [
        f"{atom.index + 1:8} PROA {atom.residue.resSeq} {atom.residue.name} {atom.name} XX 0.0 {atom.element.mass} 0"
        for atom in _trajectory().topology.atoms
    ]
    path.write_text("\n".join(["PSF", "", "  1 !NTITLE", " REMARKS x", "", f"{len(lines)} !NATOM", *lines, "", ""]))


def _prmtop(path: Path) -> None:
    topology = _trajectory().topology
    sections = {
        "ATOM_NAME": ("20a4", [f"{atom.name:<4}" for atom in topology.atoms]),
        "MASS": ("5E16.8", [f" {atom.element.mass}" for atom in topology.atoms]),
        "RESIDUE_LABEL": ("20a4", [f"{residue.name:<4}" for residue in topology.residues]),
        "RESIDUE_POINTER": ("10I8", [f" {next(residue.atoms).index + 1}" for residue in topology.residues]),
        "ATOMS_PER_MOLECULE": ("10I8", [f" {topology.n_atoms}"]),
    }
    parts = (f"%FLAG {flag}\n%FORMAT({form})\n{''.join(words)}\n" for flag, (form, words) in sections.items())
    path.write_text("%VERSION\n" + "".join(parts))


def _beside(folder: Path) -> None:
    """The topology of feature files."""
    (folder / "topology.pdb").write_bytes(EXAMPLE.with_suffix(".pdb").read_bytes())


def _frames(path: Path) -> list[Any]:
    return [count_frames(path), *read_chunks(_topology(), path, size=2, whole=True)]


def _mdcath(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a/pdbProteinAtoms"] = EXAMPLE.with_suffix(".pdb").read_text()
        file["a/348/0/coords"] = 10 * _trajectory().xyz


def _pooled(path: Path) -> list[Any]:
    (entry,) = list_source("mdcath", path.parent)
    with entry.open(Selection()) as ensemble:
        return list(ensemble.chunks)


def _contacts(path: Path) -> None:
    labels = label_of_residue(_topology())
    lines = [f"# total_frames:{FRAMES} beg:0 end:{FRAMES - 1} stride:1 interaction_types:{','.join(INTERACTIONS)}"]
    for frame in range(FRAMES):
        lines += [f"{frame}\thbbb\t{labels[k]}:N\t{labels[k + 4]}:O\t2.9" for k in range(4, 10)]
    path.write_text("\n".join(["\n".join(lines), ""]))


def _contacts_per_frame(path: Path) -> Any:
    return contacts_of_file(_topology(), path, range(FRAMES))


@cache
def _features() -> MDFeatures:
    return md_features(_topology(), EXAMPLE.with_suffix(".xtc"))


def _feature_files(path: Path) -> None:
    _features().table().to_csv(path.with_name("x_res_feature.csv"), index=False)
    np.savez_compressed(path.with_name("x_pair_feature.npz"), array=_features().pair)


def _measure(path: Path) -> Any:
    return read_measurement(f"{path.with_name('topology.pdb')}:{path.with_name('x')}")


def _feature_reader(name: str) -> Reader:
    def files(folder: Path) -> None:
        _beside(folder)
        _feature_files(folder / name)

    return Reader(_feature_files, _measure, name, files)


def _weights_table(path: Path) -> None:
    write_loss_weights(path, {group: dict.fromkeys(PROPERTIES, 0.5) for group in GROUPS})


def _embeddings(path: Path) -> None:
    write_cache(path, OneHot(), [ChainInput("a", "MKTAYIAKQR"), ChainInput("b", "ACDEFGH")])


def _embedding(path: Path) -> list[Any]:
    cache = EmbeddingCache(path)
    return [cache.read(name, sequence) for name, (sequence, *_) in cache.proteins.items()]


def _esm2(folder: Path) -> None:
    torch.manual_seed(0)
    DanceModel(SIZES).save_pretrained(folder)


CONFIG = {"model_type": "esm", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
CONFIG |= {"intermediate_size": 8, "position_embedding_type": "rotary", "token_dropout": True}
TABLE = "name,modify_seq,source,group,label\n" + "".join(
    f"p{k},MKTAYIAKQR,{source},{group},{label}\n"
    for k, (source, group, label) in enumerate(
        [("ATLAS", GROUPS[0], "train"), ("mine", GROUPS[1], "test"), ("proteinflow_pdb", "", "train")]
    )
)
MANIFEST = "name,source,label,topology,trajectory,group\na,ATLAS,train,t.pdb,t.xtc;u.xtc,\n"
MANIFEST += "b,mine,test,s.pdb,,Proteinflow\n"

STORES: dict[str, Callable[[Path], Any]] = {
    "": _read_store,
    "_check": check_store,
    "_merge": partial(_merge, dtype=None),
    "_rewrite": partial(_merge, dtype="float16"),
    "_weights": _weigh,
}
TOPOLOGIES: dict[str, Callable[[Path], object]] = {"gro": _saved, "psf": _psf, "prmtop": _prmtop}
TRAJECTORIES = {kind: f"t.{kind}" for kind in ("xtc", "trr", "dcd", "nc")} | {"models_pdb": "t.pdb"}

DATA_READERS: dict[str, Reader] = {
    **{f"store{kind}": Reader(_store, read, "s.h5") for kind, read in STORES.items()},
    **{f"published{kind}": Reader(_published, read, "s.h5") for kind, read in STORES.items()},
    "pdb": Reader(lambda path: path.write_bytes(EXAMPLE.with_suffix(".pdb").read_bytes()), read_structure, "p.pdb"),
    "mmcif": Reader(_mmcif, read_structure, "p.cif"),
    "mmcif_models": Reader(_mmcif, lambda path: list(read_models(path)), "p.cif"),
    **{kind: Reader(write, read_topology, f"p.{kind}") for kind, write in TOPOLOGIES.items()},
    **{kind: Reader(_saved, _frames, name, _known_topology) for kind, name in TRAJECTORIES.items()},
    "mdcath": Reader(_mdcath, _pooled, "mdcath_dataset_a.h5"),
    "contacts": Reader(_contacts, _contacts_per_frame, "c.tsv"),
    "contact_frequencies": Reader(_contacts, lambda path: count_frames_in_contact(path, {"all"}, None), "c.tsv"),
    "contact_labels": Reader(text("A:ALA:1\tfirst\nA:ALA:2\tsecond\n"), read_labels, "labels.tsv"),
    "clusters": Reader(text("a\ta\na\tb\nc\tc\n"), read_clusters, "clusters.tsv"),
    "training_table": Reader(text(TABLE), read_table, "table.csv"),
    "loss_weights": Reader(_weights_table, read_loss_weights, "weights.csv"),
    "manifest": Reader(text(MANIFEST), read_manifest, "manifest.csv"),
    "embeddings": Reader(_embeddings, _embedding, "e.h5"),
    "residue_features": _feature_reader("x_res_feature.csv"),
    "pair_features": _feature_reader("x_pair_feature.npz"),
    "esm2_config": Reader(
        text(json.dumps(CONFIG)),
        lambda path: load_esm2_encoder(DanceModel(SIZES), path.parent),
        "config.json",
        files=_esm2,
    ),
}
