"""Readers of files by name: each with a function that writes a small sound file and one that reads a file.

Those of weights, predictions, sequences, mutations and NMR; others are in data_readers.py.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from data_readers import DATA_READERS
from reader import Reader, text
from safetensors.torch import save_file

from data_prepare.files import fixed_text, read_text_table
from data_prepare.nmr.assignments import read_assignments
from data_prepare.nmr.nmr_star import codes_of_deposition
from data_prepare.nmr.refdb import read_refdb
from data_prepare.nmr.relaxation import read_relaxation
from data_prepare.nmr.relaxdb import read_dssp_strings, read_relaxdb, read_split_list
from data_prepare.pickles import load_restricted
from data_prepare.properties import GROUPS, properties_of_group
from model.config import ModelConfig, TrainConfig, read_train_config
from model.dyna1.classifier import PRESETS, Classifier, load_dyna1
from model.dyna1.embeddings.embedders import Af2Pairs
from model.evaluation.regression import read_embeddings
from model.figures.training import draw_training
from model.inference.inputs import Protein, read_fasta
from model.inference.prediction_files import PredictionFile, read_prediction
from model.mutations.measured import read_measured
from model.mutations.tables import read_mutants
from model.network.dance import DanceModel, load_model
from model.network.weights import read_esm2
from model.training.checkpoint import read_training
from model.training.run_log import read_metrics, read_run_log

SIZES = ModelConfig(hidden=8, layers=1, heads=2, feed_forward=8)
SEQUENCE = "MKTAYIAKQR"
PREDICTION = {"name": "p", "sequence": SEQUENCE, "model": "m 0", "digest": "0" * 32, "chain": np.zeros(10, np.int32)}
PREDICTION |= {"rmsf_nor": np.linspace(0, 1, 10, dtype=np.float32), "corr": np.eye(10, dtype=np.float32)}


def network(folder: Path) -> None:
    """A small network in a folder."""
    torch.manual_seed(0)
    DanceModel(SIZES).save_pretrained(folder)


def _state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return DanceModel(SIZES).state_dict()


def _archive(members: dict[str, bytes]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return write


def _hdf5(content: dict[str, Any]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_group("p").update(content)

    return write


def _log(path: Path) -> None:
    lines = [{"rank": 0, "n_update": n, "Learning Rate": 1e-3 / n, "ATLAS_loss": 1.0 / n} for n in range(20, 200, 20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _curves(path: Path) -> Any:
    return draw_training(read_run_log(path.parent).set_index("n_update"), {})


def _losses(group: str) -> dict[str, Any]:
    return {"model": {"loss": 1.5, "properties": dict.fromkeys(properties_of_group(group), 0.5)}}


def _predictions(path: Path) -> list[Any]:
    store = PredictionFile(path, "0" * 32, ["rmsf_nor", "corr"])
    protein = Protein("p", SEQUENCE)
    return [store.has(protein) and store.read(protein)]


def _relax(field: bool = True) -> dict[str, Any]:
    protein = {"entry_ID": "1abc", "sequence": list(SEQUENCE), "label": list("tAAA.AAvAt"), "DSSP": "C" * 10}
    return protein | ({"field_strength": 600} if field else {})


COLUMNS = {name: {"0": "".join(value) if isinstance(value, list) else value} for name, value in _relax().items()}
FASTA = "".join(f">p{number} of a test\n{SEQUENCE}\nACDEFGHIKLMNPQRSTVWY\n" for number in range(5))
MEGASCALE = "aa_seq,mut_type,WT_name,ddG_ML\nMKTAYIAKQR,wt,p,0\nAKTAYIAKQR,M1A,p,1.5\nMATAYIAKQR,K2A,p,0.25\n"
PROTEINGYM = "mutant,mutated_sequence,DMS_score\nM1A,AKTAYIAKQR,1.5\nK2A,MATAYIAKQR,0.25\n"
REFDB = "bmrb_id,seq_id,aa,ss,H,N\n" + "".join(f"1,{k},{aa},H,8.{k},120.{k}\n" for k, aa in enumerate(SEQUENCE, 1))
RELAXATION = "entry_ID,residue,assigned,R1,R2,NOE,R2_R1_pred\n" + "".join(
    f"1,{aa},1,1.{k},1{k}.5,0.8,9.{k}\n" for k, aa in enumerate(SEQUENCE)
)
CODES = f"entry_ID,sequence,label,source,cluster,dssp,field_strength\n1,{SEQUENCE},tAAA.AAvAt,relaxdb,c,,600.1\n"
RESIDUES = dict(zip(SEQUENCE, "MET LYS THR ALA TYR ILE ALA LYS GLN ARG".split(), strict=False))
SHIFTS = "".join(
    f"{2 * k + n} 1 {k} {k} {RESIDUES[aa]} {atom} 8.{k}\n"
    for k, aa in enumerate(SEQUENCE, start=1)
    for n, atom in enumerate("HN")
)
STAR = (
    "data_15000\nsave_entry\n_Entry.Sf_category entry_information\n_Entry.ID 15000\nsave_\nsave_e\n"
    "_Entity.Sf_category entity\n_Entity.ID 1\n_Entity.Polymer_type polypeptide(L)\n"
    f"_Entity.Polymer_seq_one_letter_code {SEQUENCE}\nsave_\nsave_s\n"
    "_Assigned_chem_shift_list.Sf_category assigned_chemical_shifts\nloop_\n_Atom_chem_shift.ID\n"
    "_Atom_chem_shift.Entity_ID\n_Atom_chem_shift.Comp_index_ID\n_Atom_chem_shift.Seq_ID\n_Atom_chem_shift.Comp_ID\n"
    f"_Atom_chem_shift.Atom_ID\n_Atom_chem_shift.Val\n{SHIFTS}stop_\nsave_\n"
)
YAML = "preset: demo\nupdates: 100\nlearning_rate: 1e-3\nmodel:\n  hidden: 48\n  layers: 2\n  heads: 4\n"
WWPDB = "data_1abc\nloop_\n_Atom_chem_shift.ID\n_Atom_chem_shift.Entity_ID\n_Atom_chem_shift.Comp_index_ID\n" + (
    "_Atom_chem_shift.Seq_ID\n_Atom_chem_shift.Comp_ID\n_Atom_chem_shift.Atom_ID\n_Atom_chem_shift.Val\n" + SHIFTS
)


def _legacy(path: Path) -> None:
    torch.save(_state(), path, _use_new_zipfile_serialization=False)


READERS: dict[str, Reader] = {
    "pt": Reader(lambda path: torch.save(_state(), path), load_model, "weights.pt"),
    "pt_legacy": Reader(_legacy, load_model, "weights.pt"),
    "pt_dyna1": Reader(
        lambda path: torch.save(Classifier(replace(PRESETS["onehot"], layers=1, feed_forward=8)).state_dict(), path),
        load_dyna1,
        "weights.pt",
    ),
    "pt_esm2": Reader(lambda path: torch.save(_state(), path), read_esm2, "weights.pt"),
    "safetensors": Reader(lambda path: save_file(_state(), path), load_model, "weights.safetensors"),
    "config": Reader(
        text(json.dumps(asdict(SIZES))), lambda path: load_model(path.parent), "config.json", files=network
    ),
    "yaml": Reader(text(YAML), read_train_config, "options.yaml"),
    "run_config": Reader(
        text(json.dumps({"config": asdict(TrainConfig())}, default=str)), read_train_config, "config.json"
    ),
    "training": Reader(
        lambda path: torch.save({"optimizer": _state(), "update": 3, "losses": [1.0]}, path),
        lambda path: read_training(path.parent),
        "training.pt",
    ),
    "log": Reader(_log, _curves, "log.jsonl"),
    "published_log": Reader(_log, _curves, "training_log.json"),
    "metrics": Reader(
        text(json.dumps({"groups": {group: _losses(group) for group in GROUPS}})),
        lambda path: draw_training(pd.DataFrame({"n_update": [1, 2]}), read_metrics(path.parent)),
        "update_20.json",
    ),
    "npz": Reader(lambda path: np.savez(path, **PREDICTION), read_prediction, "p.npz"),
    "npz_compressed": Reader(lambda path: np.savez_compressed(path, **PREDICTION), read_prediction, "p.npz"),
    "h5": Reader(_hdf5(PREDICTION), _predictions, "p.h5"),
    "h5_fixed": Reader(_hdf5({name: fixed_text(value) for name, value in PREDICTION.items()}), _predictions, "p.h5"),
    "npy": Reader(
        lambda path: np.save(path, np.ones((4, 8), np.float32)), lambda path: read_embeddings(path, 4), "x.npy"
    ),
    "af2": Reader(
        lambda path: np.save(path, np.ones((10, 10, 128), np.float16)),
        lambda path: Af2Pairs(path.parent).read(path.stem, SEQUENCE),
        "p.npy",
    ),
    "fasta": Reader(text(FASTA), read_fasta, "p.fasta"),
    "fasta_gz": Reader(text(FASTA), read_fasta, "p.fasta.gz"),
    "a3m": Reader(text("#10,20\t1,2\n" + FASTA), read_fasta, "p.a3m"),
    "mutants": Reader(
        text("mutant,x\nM1A,1\nK2A:T3A,2\n"), lambda path: read_mutants(path, [Protein("p", SEQUENCE)]), "m.csv"
    ),
    "mutants_gz": Reader(
        text("mutant,x\nM1A,1\nK2A:T3A,2\n"), lambda path: read_mutants(path, [Protein("p", SEQUENCE)]), "m.csv.gz"
    ),
    "megascale": Reader(text(MEGASCALE), lambda path: list(read_measured(path)), "m.csv"),
    "proteingym": Reader(text(PROTEINGYM), lambda path: list(read_measured(path)), "m.csv.gz"),
    "table": Reader(text(CODES), lambda path: read_text_table(path, ["sequence"]), "t.csv"),
    "codes": Reader(text(CODES), read_assignments, "codes.csv"),
    "refdb": Reader(text(REFDB), read_refdb, "refdb.csv"),
    "relaxation": Reader(text(RELAXATION), read_relaxation, "rates.csv"),
    "relaxdb": Reader(text(json.dumps(COLUMNS)), read_relaxdb, "relaxdb.json"),
    "relaxdb_zip": Reader(_archive({"relaxdb.json": json.dumps(COLUMNS).encode()}), read_relaxdb, "relaxdb.json.zip"),
    "relaxdb_pickles": Reader(_archive({"d/1.pkl": pickle.dumps(_relax())}), read_relaxdb, "relaxdb.zip"),
    "pickle": Reader(
        lambda path: path.write_bytes(pickle.dumps(_relax() | {"x": np.ones(3)})), load_restricted, "1.pkl"
    ),
    "dssp": Reader(text("PDB,DSSP\n1abc,CCHH\n"), read_dssp_strings, "dssp.csv.gz"),
    "split_list": Reader(text("1abc\n2abc\n"), read_split_list, "train.txt"),
    "star": Reader(text(STAR), lambda path: codes_of_deposition(path, 0.1), "x.str"),
    "star_gz": Reader(text(STAR), lambda path: codes_of_deposition(path, 0.1), "x.str.gz"),
    "wwpdb": Reader(text(WWPDB), lambda path: codes_of_deposition(path, 0.1), "1abc_cs.str"),
} | DATA_READERS
