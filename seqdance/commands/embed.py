"""Command `seqdance embed`: embeddings or predicted properties of proteins as features; regression on embeddings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.files import HDF5_SUFFIXES, check_output
from model.choices import OWN_NAME, Features, Mean
from seqdance.options import ModelOptions, ProteinOptions


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(ModelOptions, ProteinOptions):
    """Features of proteins for your own models; with --regress, linear regression on embeddings.

    Rerun the same command to resume an interrupted run.
    """

    output: Path
    """An .h5 or .npz file, or an .npy file of the means with the names in a .txt file. With --regress: a CSV."""
    features: Features = "embedding"
    """embedding: last hidden state; properties: the 50 predicted residue properties; both: in this order."""
    mean: Mean | None = None
    """Mean over tokens, with <cls> and <eos>, or over residues. Default: tokens for the embedding, as published;
    residues for properties, of which <cls> and <eos> have none."""
    per_residue: bool = False
    """One row per residue (.h5 or .npz, one array per protein) instead of the mean."""
    regress: Path | None = None
    """CSV with sequence (or seq), the targets, and either split_0, split_1, ... (train or test) or cluster."""
    target: tuple[str, ...] = ()
    """Columns to predict. Rows without a number in a column are left out for it."""
    compare: tuple[str, ...] = ()
    """Other embeddings to compare with: NAME=FILE.npy with one row per row of the table, or NAME=MODEL."""
    components: Annotated[int, Field(ge=1)] = 200
    """Principal components of the second regression; the first uses all dimensions."""
    repeats: Annotated[int, Field(ge=1)] = 20
    """Random splits by cluster, a fifth of the rows for testing, if the table has no split_0, ..."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the random splits."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Proteins per batch; does not change the results. Default: 16,384 tokens on a CPU, what fills a GPU."""

    def __post_init__(self) -> None:
        check_output(self.output)
        suffix = self.output.suffix.lower()
        if self.regress is None:
            require(not (self.target or self.compare), "--target and --compare require --regress")
            allowed = (*HDF5_SUFFIXES, ".npz") if self.per_residue else (*HDF5_SUFFIXES, ".npz", ".npy")
            require(not (self.per_residue and self.mean), "--per-residue takes no --mean; remove one of them")
            require(suffix in allowed, f"--output {self.output}: it must end in {' or '.join(allowed)}")
            return
        require(self.target, "--regress requires --target, the columns to predict")
        require(suffix == ".csv", f"--output {self.output}: with --regress it must end in .csv")
        options = ("sequence", "fasta", "pdb", "cif", "chain", "per_residue", "mean")
        given = [f"--{option.replace('_', '-')}" for option in options if getattr(self, option)]
        given += ["--features"] * (self.features != "embedding")
        require(not given, f"--regress reads mean embeddings of its table; remove {' and '.join(given)}")
        for words in self.compare:
            require(all(words.partition("=")), f"--compare {words}: expected NAME=FILE.npy or NAME=MODEL")
        require(len(self.sources) > len(self.compare), f"--compare: names must differ, also from {OWN_NAME}")

    @property
    def sources(self) -> dict[str, str]:
        """Name of each embedding to compare -> model or .npy file."""
        return {OWN_NAME: self.model} | {name: source for name, _, source in (w.partition("=") for w in self.compare)}


def embed(options: EmbedOptions) -> list[object]:
    """Write features, or a regression with its summary; returns the lines to print."""
    if options.regress is None:
        from model.inference.embed import write_embeddings
        from model.network.dance import load_model

        proteins, model = options.proteins(), load_model(options.model, options.device)
        how: Any = {name: getattr(options, name) for name in ("batch_size", "precision", "features", "mean")}
        return [*write_embeddings(model, proteins, options.output, options.per_residue, **how)]
    from model.evaluation.regression import regress_table

    summary, paths = regress_table(
        options.regress,
        options.target,
        options.sources,
        options.output,
        components=options.components,
        repeats=options.repeats,
        seed=options.seed,
        batch_size=options.batch_size,
        device=options.device,
        precision=options.precision,
    )
    return [summary.to_string(index=False, float_format="%.3f"), *paths]


main = partial(run, EmbedOptions, embed)
