"""Command `seqdance embed`: embeddings of proteins, or how well linear regression on them predicts properties.

seqdance embed --model ChaoHou/SeqDance --fasta proteins.fasta --output embeddings.h5
seqdance embed --model ChaoHou/SeqDance --regress shapes.csv --target rg_nm asphericity --output regression.csv
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import h5py
import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import InputError, run_command
from data_prepare.files import check_output, read_text_table, whole_file, write_text
from model.inference.embed import iterate_embeddings, read_splits, regress, summarise
from model.inference.inputs import Protein, check_text, proteins_of
from model.inference.predict import HDF5_SUFFIXES, is_hdf5, model_fingerprint
from model.network.dance import DanceModel, load_model

OWN_NAME: Final = "model"  # of the embeddings of --model, in the table of the regression


@dataclass(frozen=True)
class EmbedConfig:
    """Embeddings (last hidden state) of proteins; or, with --regress, linear regression on them."""

    model: str
    """Folder with model.safetensors and config.json, weight file, or Hub id. ESMDance's embeddings are ESM2-35M's."""
    output: Path
    """An .h5 file, or an .npy file of the means with the names beside it as .txt. With --regress: a CSV."""
    sequence: str | None = None
    """One protein; chains of a complex are joined by <eos><cls>."""
    fasta: Path | None = None
    """Proteins of a FASTA file (.gz too)."""
    pdb: Path | None = None
    """Sequence of a PDB file (.gz too), unresolved residues included."""
    cif: Path | None = None
    """Sequence of an mmCIF file (.gz too)."""
    chain: str | None = None
    """Chain of the structure, or several joined by commas. Default: all protein chains."""
    per_residue: bool = False
    """A row for each residue, in the .h5 file a dataset for each protein; otherwise the mean over the tokens."""
    regress: Path | None = None
    """CSV with the columns sequence, targets, and split_0, split_1, ... (train or test) or cluster."""
    target: tuple[str, ...] = ()
    """Columns of the table to predict; rows without a number in one are left out for it."""
    compare: tuple[str, ...] = ()
    """NAME=FILE.npy, other embeddings with a row for each of the table, or NAME=MODEL; several are possible."""
    components: int = 200
    """Principal components of the second regression; the first is on the whole embedding."""
    repeats: int = 20
    """Splits of whole clusters, a fifth of the rows test, for tables without columns split_0, ..."""
    seed: int = 0
    """Of the first of these splits."""
    batch_size: int | None = None
    """Proteins at a time; changes no number. Default: as many as have about sixteen thousand tokens together."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""


def embed(config: EmbedConfig) -> list[Path]:
    """Write embeddings; returns the paths.

    An .h5 file holds `embedding` (n, hidden) float32 and `names` (n,), or a dataset (N, hidden) for each protein; its
    attribute `model` is the fingerprint of the model.
    """
    npy = config.output.suffix.lower() == ".npy"
    if not (npy or is_hdf5(config.output)):
        raise InputError(f"--output {config.output}: give it the ending {' or '.join(HDF5_SUFFIXES)}, or .npy")
    if npy and config.per_residue:
        raise InputError(f"--output {config.output}: rows of residues go to an .h5 file, means to .npy or .h5")
    check_output(config.output)
    proteins = proteins_of(config.sequence, config.fasta, config.pdb, config.cif, config.chain)
    model = load_model(config.model, config.device)
    names = [protein.name for protein in proteins]
    if config.per_residue:
        write_rows(config, model, proteins)
        return [config.output]
    means = mean_embeddings(model, [protein.sequence for protein in proteins], config.batch_size)
    if npy:
        listed = config.output.with_suffix(".txt")
        write_text(listed, "".join(f"{name}\n" for name in names))
        with whole_file(config.output) as temporary:
            np.save(temporary, means)
        return [config.output, listed]
    with whole_file(config.output) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["model"] = model_fingerprint(model)
        file["embedding"] = means
        file.create_dataset("names", data=names, dtype=h5py.string_dtype())
    return [config.output]


def write_rows(config: EmbedConfig, model: DanceModel, proteins: Sequence[Protein]) -> None:
    """One dataset for each protein; the file appears when all are in it."""
    if odd := next((protein.name for protein in proteins if "/" in protein.name or set(protein.name) == {"."}), None):
        raise InputError(f"{odd}: not a name in HDF5; rename it without a slash")
    with whole_file(config.output) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["model"] = model_fingerprint(model)
        rows = iterate_embeddings(model, [protein.sequence for protein in proteins], True, config.batch_size)
        for place, values in tqdm(rows, total=len(proteins), unit="protein"):
            file[proteins[place].name] = values


def mean_embeddings(model: DanceModel, sequences: Sequence[str], batch_size: int | None) -> NDArray[np.float32]:
    """(n, hidden), with a progress bar."""
    means = np.empty((len(sequences), model.config.hidden), np.float32)
    rows = iterate_embeddings(model, sequences, batch_size=batch_size)
    for place, values in tqdm(rows, total=len(sequences), unit="protein"):
        means[place] = values
    return means


def regression(config: EmbedConfig) -> tuple[list[Path], pd.DataFrame]:
    """Write the numbers of every split and their summary; returns the paths and the summary."""
    if config.regress is None or not config.target:
        raise InputError("--regress needs the columns to predict; name them behind --target")
    if config.output.suffix.lower() != ".csv":
        raise InputError(f"--output {config.output}: with --regress it is a table; give it the ending .csv")
    if given := [name for name in ("sequence", "fasta", "pdb", "cif", "chain") if getattr(config, name) is not None]:
        raise InputError(f"--{given[0]} does not go with --regress, which takes the sequences of its table")
    if config.per_residue:
        raise InputError("--per-residue does not go with --regress, which takes means")
    if config.components < 1 or config.repeats < 1:
        raise InputError("--components and --repeats must be at least 1")
    if config.seed < 0:
        raise InputError(f"--seed {config.seed}: it must be at least 0")
    check_output(config.output)
    table = read_text_table(config.regress, ["sequence", *config.target])
    targets = pd.DataFrame({name: numbers(config.regress, table[name]) for name in config.target})
    try:
        splits = read_splits(table, config.repeats, config.seed)
    except InputError as error:
        raise InputError(f"{config.regress}: {error}") from None

    sequences = table["sequence"].tolist()
    for line, sequence in enumerate(sequences, start=2):
        check_text(sequence, f"{config.regress}, line {line}: sequence")
    embeddings = {OWN_NAME: embeddings_of(config, config.model, sequences)}
    for words in config.compare:
        name, equals, source = words.partition("=")
        if not (name and equals and source) or name in embeddings:
            raise InputError(f"--compare {words}: expected NAME=FILE.npy or NAME=MODEL, with a name of its own")
        embeddings[name] = embeddings_of(config, source, sequences)
    results = regress(embeddings, targets, splits, config.components)
    summary = summarise(results)
    paths = [config.output, config.output.with_name(f"{config.output.stem}_summary.csv")]
    for path, frame in zip(paths, (results, summary), strict=True):
        with whole_file(path) as temporary:
            frame.to_csv(temporary, index=False, float_format="%.6g")
    return paths, summary


def embeddings_of(config: EmbedConfig, source: str, sequences: Sequence[str]) -> NDArray[np.float32]:
    """(n, d) from an .npy file with a row for each sequence, or by a model."""
    if not source.endswith(".npy"):
        return mean_embeddings(load_model(source, config.device), sequences, config.batch_size)
    try:
        values = np.load(source)
    except (ValueError, EOFError) as error:
        raise InputError(f"{source}: not an array of NumPy ({error})") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":  # an npz, or of text
        raise InputError(f"{source}: not one array of numbers; write it again with numpy.save")
    if values.ndim != 2 or len(values) != len(sequences) or not np.isfinite(values).all():
        raise InputError(
            f"{source}: shape {values.shape}; expected finite numbers, a row for each of the {len(sequences)} rows of "
            f"{config.regress}"
        )
    return values


def numbers(path: Path, column: pd.Series) -> pd.Series:
    """A column of text as numbers, NaN where it is empty."""
    values = pd.to_numeric(column.str.strip(), errors="coerce").replace([np.inf, -np.inf], np.nan)
    wrong = values.isna() & ~column.str.strip().str.lower().isin(["", "nan", "na"])
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise InputError(f"{path}, line {row + 2}: {column.name} is {column.iloc[row]!r}, not a number; leave it empty")
    return values


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config = tyro.cli(EmbedConfig, args=args)
    if config.regress is None and not config.target:
        paths = run_command(lambda: embed(config), config.debug)
    else:
        paths, summary = run_command(lambda: regression(config), config.debug)
        print(summary.to_string(index=False, float_format="%.3f"))
    for path in paths:
        print(path)
