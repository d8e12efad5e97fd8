"""Command `seqdance dyna1 evaluate`: metrics of a classifier on RelaxDB, RelaxDB-CPMG or a table, and of baselines."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.nmr.choices import FILE_SETS
from seqdance.options import DeviceOptions, FigureFormat


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(DeviceOptions):
    """Evaluate a classifier per protein and compare it with naive baselines."""

    data: str
    """relaxdb or cpmg, with --file; or a label table (CSV) with entry_ID, sequence, label, source, cluster."""
    output: Path
    """Output folder, not that of the weights. It gets metrics.json, summary.txt, per_protein.csv, residues.csv and
    distribution.png."""
    file: Path | None = None
    """File of relaxdb or cpmg: the published JSON, a folder of pickles, either zipped, or a label table. Conservation,
    pLDDT and SASA in RelaxDB_with_other_metrics are baselines too."""
    split: Path | None = None
    """List of the entries to evaluate, one per line. Default: all."""
    dssp: Path | None = None
    """Secondary structures for the naive baselines: dssp.csv (.gz too). Default: column dssp or DSSP of the file."""
    weights: str | None = None
    """Classifier: folder (best/ of a training), published weight file, or Hub id. Default: only baselines."""
    embedder: str | None = None
    """onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], esmc[:NAME][:LAYER], af2:FOLDER, cache:FILE.h5.
    Default: by the weights."""
    train: Path | None = None
    """Label table to fit the naive baselines on."""
    baselines: Path | None = None
    """Instead of --train: folder with probs_aa.csv, probs_dssp.csv, probs_aa_dssp.csv."""
    sample_baselines: bool = False
    """Also the published form of the naive baselines: 0 or 1, drawn with their probability (--seed)."""
    published_padding: bool = False
    """Attend to padding as the published baselines on letters and AlphaFold2 pairs do."""
    plot_format: FigureFormat = "png"
    """Format of distribution.png."""
    missing_only: bool = False
    """Only missing signals are positive."""
    rex_only: bool = False
    """Only exchange is positive; missing signals are not evaluated."""
    unsuppressed: bool = False
    """cpmg: exchange that is only seen without its suppression (Y) is positive too."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the bootstrap over proteins, and of --sample-baselines."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Proteins per batch; does not change the results."""

    def __post_init__(self) -> None:
        require(self.weights or not self.embedder, f"--embedder {self.embedder} requires --weights")
        require(self.weights or not self.published_padding, "--published-padding requires --weights")
        require(not (self.train and self.baselines), "give only one of --train and --baselines")
        if self.data in FILE_SETS:
            require(self.file, f"--data {self.data} requires --file")
        else:
            require(not self.file, f"--file {self.file} requires --data relaxdb or --data cpmg")
        if self.weights and Path(self.weights).exists():
            weights, output = Path(self.weights).resolve(), self.output.resolve()
            folder = weights if weights.is_dir() else weights.parent
            apart = folder not in (output, *output.parents)
            require(apart, f"--output {self.output}: this is the folder of the weights; give another folder")


def evaluate_dyna1(options: EvaluateOptions) -> list[str]:
    """Write all files of the output folder; returns the summary."""
    from data_prepare.nmr.assignments import FIELD_STRENGTH
    from model.dyna1.data import annotated_proteins
    from model.dyna1.evaluate import CLASSIFIER, evaluate, read_evaluated, scores_of, write_evaluation
    from model.figures.dyna1 import draw_metrics
    from model.figures.save import save_figure

    path = options.file or Path(options.data)
    table, absent = read_evaluated(options.data, path, options.split)
    flags = {name: getattr(options, name) for name in ("missing_only", "rex_only", "unsuppressed")}
    proteins = annotated_proteins(table, str(path), **flags)
    classifier = (options.weights, options.embedder, options.device, options.batch_size)
    naive = (options.train, options.baselines, options.dssp, options.seed if options.sample_baselines else None)
    scores = scores_of(proteins, path, *classifier, *naive, options.published_padding)
    found, per_protein = evaluate(proteins, scores, options.seed)
    if FIELD_STRENGTH in table:
        strengths = table.set_index("entry_ID")[FIELD_STRENGTH]
        per_protein[FIELD_STRENGTH] = per_protein["entry_ID"].map(strengths)
    metrics = {"settings": asdict(options), "absent": absent, **found}
    chosen = ", ".join(name.replace("_", "-") for name, value in flags.items() if value)
    title = f"{options.data} ({chosen})" if chosen else options.data
    text = write_evaluation(options.output, proteins, scores, metrics, per_protein, title)
    picture = options.output / f"distribution.{options.plot_format}"
    save_figure(draw_metrics(per_protein, metrics, CLASSIFIER), picture, dpi=150)
    return text.splitlines()


main = partial(run, EvaluateOptions, evaluate_dyna1)
