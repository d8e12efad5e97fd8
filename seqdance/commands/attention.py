"""Command `seqdance attention`: attention maps of sequences, or what they know of the dynamics in a feature store.

    seqdance attention --model ChaoHou/SeqDance --fasta proteins.fasta --output maps.h5 --plot
    seqdance attention --model ChaoHou/SeqDance --store features.h5 --table table.csv --output attention.csv

The first writes all maps of each sequence. The second compares the maps of each entry of a store with its pair features
(`model.evaluation.attention.attention_metrics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from data_prepare.command_line import run
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.errors import require
from data_prepare.files import check_output, whole_file
from data_prepare.properties import GROUPS
from data_prepare.resume import Results
from model.config import MAX_TOKENS
from model.evaluation.attention import Form, StoreEntry, analyse, summary_text
from model.figures.attention import draw_analysis, draw_maps
from model.figures.save import save_figure
from model.inference.attention import attention_maps, map_writer
from model.inference.batches import residue_rows
from model.inference.inputs import file_names
from model.network.dance import load_model
from model.training.data import group_sequences, require_files
from seqdance.options import ModelOptions, ProteinOptions

MAP_SUFFIXES = (".npz", ".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(ModelOptions, ProteinOptions):
    """Write the attention maps of sequences, or compare those of the entries of a store with their pair features.

    Entries of molecular dynamics (10 pair features) are compared with co-movement and interactions, those of normal
    mode analysis (3 pair features) with the correlations of the three groups of modes, by Spearman's correlation.
    """

    output: Path
    """Of sequences: .npz or .h5, an array (tokens, tokens, layers * heads) per protein under its name, with _ for / and
    similar characters. With --store: CSV of the means over proteins per map; NAME_best.csv (best map of each protein)
    and NAME.png are written beside it."""
    dtype: Annotated[Literal["float32", "float16"], tyro.conf.arg(aliases=["--precision"])] = "float32"
    """Number type in the file of maps."""
    residues_only: bool = False
    """Leave the rows and columns of <cls> and <eos> out of the file of maps."""
    plot: bool = False
    """Draw the mean map, and of each layer the map with the most long-range attention, as PNG beside the output."""
    store: Path | None = None
    """Instead of sequences: feature store."""
    table: Path | None = None
    """Training table of the store: name, modify_seq, source, label."""
    label: Literal["test", "train"] = "test"
    """Entries of the table to use."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only the first entries of each training group."""
    length: Annotated[int, Field(ge=1)] = MAX_TOKENS
    """Longer entries are cut after this number of tokens."""
    form: Form = "notebook"
    """notebook: pairs with |i-j| > 2, five metrics. paper: |i-j| > 5, maps symmetrised, Spearman's correlations."""
    example: str | None = None
    """Entry whose best map is drawn. Default: the one whose best map is the median of all."""

    def __post_init__(self) -> None:
        check_output(self.output)
        what, suffixes = ("the analysis", (".csv",)) if self.store else ("a file of maps", MAP_SUFFIXES)
        require(
            self.output.suffix.lower() in suffixes,
            f"--output {self.output}: {what} ends in {' or '.join(suffixes)}",
        )
        require((self.store is None) == (self.table is None), "--store and --table go together; give both or neither")
        proteins = self.sequence or self.fasta or self.structure or self.chain
        require(
            self.store is None or not (proteins or self.plot or self.residues_only or self.dtype != "float32"),
            "--store: remove --sequence, --fasta, --pdb, --cif, --chain, --plot, --residues-only and --dtype",
        )


def write_maps(options: AttentionOptions) -> list[Path]:
    """Write the maps of each sequence, and figures of them; returns the paths."""
    proteins = options.proteins()
    names = file_names([protein.name for protein in proteins])
    model = load_model(options.model, options.device)
    paths = [options.output]
    with map_writer(options.output) as write:
        for name, protein in zip(tqdm(names, unit="sequence", disable=len(names) == 1), proteins, strict=True):
            maps = attention_maps(model, protein.sequence, not options.residues_only, options.dtype)
            write(name, protein.sequence, maps)
            if options.plot:
                suffix = "" if len(proteins) == 1 else f"_{name}"
                paths.append(options.output.with_name(f"{options.output.stem}{suffix}.png"))
                rows, chain = residue_rows(protein.sequence)
                of_residues = maps if options.residues_only else maps[rows[:, None], rows]
                save_figure(draw_maps(protein.name, of_residues, chain, model.config.heads), paths[-1])
    return paths


def analyse_store(options: AttentionOptions, store_path: Path, table: Path) -> list[Path]:
    """Measure the entries of a store; write the means, the best maps and the figure; returns the paths."""
    require_files(table=table, store=store_path)
    model, results = load_model(options.model, options.device), Results(options.output)
    with FeatureStore(store_path) as store:
        sequences = group_sequences(read_table(table), store, options.label)
        entries = [StoreEntry(group, *entry) for group in GROUPS for entry in sequences[group][: options.limit]]
        require(entries, f"{store_path}: no entry labelled {options.label} in {table} is in the store")
        names = (None, *(entry.name for entry in entries))
        require(options.example in names, f"--example {options.example}: not one of the {len(entries)} entries")
        found = analyse(model, store, entries, results, options.length, options.form, options.example)
    output = options.output
    paths = [output, output.with_name(f"{output.stem}_best.csv"), output.with_suffix(".png")]
    for path, content in zip(paths, (found.means, found.best), strict=False):
        with whole_file(path) as temporary:
            content.to_csv(temporary, index=False)
    save_figure(draw_analysis(found.means, model.config.heads, found.example), paths[2])
    results.remove()
    print(summary_text(found.means, found.best))
    return paths


def attention(options: AttentionOptions) -> list[Path]:
    """Write maps, or with --store and --table their analysis; returns the paths."""
    if options.store and options.table:
        return analyse_store(options, options.store, options.table)
    return write_maps(options)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    run(AttentionOptions, attention, args)
