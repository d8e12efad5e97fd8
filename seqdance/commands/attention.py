"""Command `seqdance attention`: attention maps of sequences, or their comparison with the features of a store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.files import HDF5_SUFFIXES, check_output
from data_prepare.pipeline.split import TABLE
from model.choices import AttentionForm
from model.config import MAX_TOKENS
from seqdance.options import FigureFormat, ModelOptions, ProteinOptions


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(ModelOptions, ProteinOptions):
    """Write the attention maps of sequences, or compare those of a feature store with its pair features."""

    output: Path
    """.npz or .h5: an array (tokens, tokens, layers * heads) per protein. With --store: NAME.csv, means over proteins,
    NAME_best.csv (best map of each protein) and NAME.png. The metrics of each entry stay in .NAME.csv.parts, so that a
    rerun, resumed or finished, measures only new entries."""
    dtype: Literal["float32", "float16"] = "float32"
    """Number type of the maps in the file."""
    residues_only: bool = False
    """Write the maps without the rows and columns of <cls> and <eos>."""
    plot: bool = False
    """Draw the mean map, and of each layer the map with the most long-range attention."""
    plot_format: FigureFormat = "png"
    """Format of the figures."""
    store: Path | None = None
    """Feature store to analyse, instead of sequences."""
    table: Path | None = None
    """Training table of the store. Default: table.csv in its folder."""
    label: Literal["test", "train"] = "test"
    """Entries of the table to use."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only the first N entries of each training group."""
    length: Annotated[int, Field(ge=1)] = MAX_TOKENS
    """Longer entries are cut after this many tokens."""
    form: AttentionForm = "notebook"
    """notebook: pairs with |i-j| > 2, five metrics. paper: |i-j| > 5, symmetrised maps, Spearman correlations."""
    example: str | None = None
    """Entry to draw. Default: the one with the median best map."""

    def __post_init__(self) -> None:
        check_output(self.output)
        suffixes = (".csv",) if self.store else (".npz", *HDF5_SUFFIXES)
        known = self.output.suffix.lower() in suffixes
        require(known, f"--output {self.output}: expected a name that ends in {' or '.join(suffixes)}")
        require(self.store or not self.table, "--table requires --store")
        if self.store:
            names = ("sequence", "fasta", "pdb", "cif", "chain", "plot", "residues_only")
            given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name)]
            given += ["--dtype"] if self.dtype != "float32" else []
            require(not given, f"--store excludes {' and '.join(given)}; remove one of them")


def maps_of_sequences(options: AttentionOptions) -> list[Path]:
    """Write the maps of each sequence, and figures of them; returns the paths."""
    from model.figures.attention import draw_maps
    from model.figures.save import save_figure
    from model.inference.attention import residue_maps, write_maps
    from model.inference.inputs import file_names
    from model.network.dance import load_model

    proteins, output = options.proteins(), options.output
    names = file_names([protein.name for protein in proteins])
    model, paths = load_model(options.model, options.device), [output]
    label = model.label
    written = write_maps(model, proteins, names, output, not options.residues_only, options.dtype, options.precision)
    for name, protein, maps in written:
        if options.plot:
            paths.append(
                output.with_name(f"{output.stem}{'' if len(proteins) == 1 else f'_{name}'}.{options.plot_format}")
            )
            own, chain = residue_maps(maps, protein.sequence)
            save_figure(draw_maps(protein.name, own, chain, model.config.heads), paths[-1], note=label)
    return paths


def attention(options: AttentionOptions) -> Sequence[object]:
    """Write maps, or with --store their analysis; returns the lines to print."""
    if options.store is None:
        return maps_of_sequences(options)
    from model.evaluation.attention import analyse_store, summary_text
    from model.figures.attention import draw_analysis
    from model.figures.save import save_figure
    from model.network.dance import load_model
    from model.training.data import require_files

    table = options.table or options.store.with_name(TABLE)
    require_files(table=table, store=options.store)
    model, output = load_model(options.model, options.device), options.output
    settings = (options.label, options.limit, options.length, options.form, options.example, options.precision)
    found, best = analyse_store(model, options.store, table, output, *settings)
    figure = output.with_suffix(f".{options.plot_format}")
    save_figure(draw_analysis(found.means, model.config.heads, found.example), figure, note=model.label)
    return [summary_text(found.means, found.best), output, best, figure]


main = partial(run, AttentionOptions, attention)
