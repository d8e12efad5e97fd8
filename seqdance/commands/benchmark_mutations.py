"""Command `seqdance benchmark-mutations`: predicted against measured effects of mutations."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.resume import Results
from model.choices import MeasuredForm
from model.network.names import short_name
from seqdance.options import FigureFormat, ForwardOptions

if TYPE_CHECKING:
    from model.mutations.benchmark import AnyNetwork
    from model.mutations.measured import LeftOut
    from model.mutations.supervised import Errors


@dataclass(frozen=True, kw_only=True)
class BenchmarkMutationsConfig(ForwardOptions):
    """Compare scores of mutations with measured losses of stability or fitness.

    Scores: for each --model the published score and the changes of sasa_mean and of psi alone; for each --esm2 the
    masked and the unmasked log-likelihood ratio; always BLOSUM62 and the loss of hydrophobicity. A higher score means
    more damage.
    """

    measured: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MEASURED")]
    """Table (.csv, .csv.gz) or folder of tables: mega-scale set, ProteinGym, or ddG with structures."""
    output: Path
    """Folder for mutations.csv, proteins.csv, summary.json, proteins.png, left_out.csv and supervised.csv. Results
    of each protein stay in .scores.parts: an interrupted run resumes, and another --model adds only its own."""
    model: tuple[str, ...] = ()
    """SeqDance or ESMDance, one or more: seqdance, esmdance, demo, folders, weight files or Hub ids."""
    esm2: tuple[str, ...] = ()
    """ESM2 of any size with its language-model head: folders, files of fair-esm (.pt), or Hub ids such as
    facebook/esm2_t33_650M_UR50D."""
    form: MeasuredForm = "auto"
    """Form of the tables; auto detects it from the columns."""
    structures: Path | None = None
    """Folder of structure files (PDB_CHAIN or PDB as .pdb or .cif, .gz too) with the residue numbers of ddG tables."""
    min_mutants: Annotated[int, Field(ge=3)] = 10
    """Proteins with fewer mutants enter only the pooled correlation."""
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    """Bootstrap samples of proteins for the 95 % intervals; 0 for none."""
    plot_format: FigureFormat = "png"
    """Format of the figure: a box of correlations for each score; of one protein, scores against measured losses."""
    supervised: bool = False
    """Also train ridge regression on embeddings (mutant minus wild type) with half of the mutants of each protein."""
    repeats: Annotated[int, Field(ge=1)] = 10
    """Random halves of --supervised."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the bootstrap and the halves."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Sequences per batch; does not change the results. Default: by protein length, 16 for ESM2."""

    def __post_init__(self) -> None:
        names = [short_name(path) for path in (*self.model, *self.esm2)]
        for name in names:
            require(names.count(name) == 1, f"two networks are named {name}; rename one of their folders")
        require(names or not self.supervised, "--supervised requires --model or --esm2")


def compare(config: BenchmarkMutationsConfig) -> list[str]:
    """Score all measured mutants and write the files; returns the summary."""
    from model.figures.mutations import draw_benchmark
    from model.figures.save import save_figure
    from model.mutations import benchmark, supervised
    from model.mutations.measured import read_measured

    left_out: list[LeftOut] = []
    proteins = list(read_measured(config.measured, config.form, config.structures, left_out))
    results, halves = Results(config.output / "scores"), (config.repeats, config.seed)
    how = (config.batch_size, config.precision)
    errors: dict[tuple[str, str], Errors] = {}

    def train(name: str, network: AnyNetwork) -> None:
        if config.supervised:
            errors.update(supervised.regression_errors(name, network, proteins, results, *halves, *how))

    scores, labels = benchmark.score_all(proteins, config.model, config.esm2, results, config.device, *how, train)
    table = benchmark.mutation_table(proteins, scores)
    per_protein = benchmark.protein_table(proteins, table)
    summary = benchmark.correlation_summary(table, per_protein, config.min_mutants, config.bootstrap, config.seed)
    summary = {"measured": str(config.measured), "networks": labels, "left_out": len(left_out), **summary}
    lines = [benchmark.summary_text(summary), ""]
    if config.supervised:
        trained = supervised.supervised_table(proteins, table, errors, *halves)
        how_many = (config.repeats, config.min_mutants, config.bootstrap, config.seed)
        summary["supervised"], text = supervised.write_supervised(config.output, trained, *how_many)
        lines += [text, ""]
    benchmark.write_results(config.output, table, per_protein, left_out, summary)
    figure = draw_benchmark(table, per_protein, summary, benchmark.BASELINES)
    save_figure(figure, config.output / f"proteins.{config.plot_format}", dpi=150, note="; ".join(labels.values()))
    unusable = f"; rows that could not be used: {len(left_out)}, see left_out.csv" if left_out else ""
    return [*lines, f"files: {config.output}{unusable}"]


main = partial(run, BenchmarkMutationsConfig, compare)
