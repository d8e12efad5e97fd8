"""Command `seqdance dyna1 evaluate`: metrics of a classifier on RelaxDB, RelaxDB-CPMG or a table, beside baselines.

    seqdance dyna1 evaluate --data relaxdb --file RelaxDB.json --weights runs/dyna1_onehot/best \\
        --train LABELS.csv --output runs/dyna1_onehot/relaxdb

The folder `--output` gets metrics.json, summary.txt, per_protein.csv, residues.csv and distribution.png.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings, run
from data_prepare.errors import require
from data_prepare.files import whole_file, write_text
from data_prepare.nmr.assignments import read_assignments
from data_prepare.nmr.relaxdb import read_relaxdb, read_split_list, select_entries
from model.dyna1.baselines import fit_baselines, read_baselines, read_dssp
from model.dyna1.classifier import load_dyna1
from model.dyna1.data import annotated_proteins, first_names, read_proteins
from model.dyna1.embeddings.embedders import check_source, default_embedder, make_embedder
from model.dyna1.evaluate import (
    CLASSIFIER,
    Scores,
    baseline_scores,
    classifier_scores,
    evaluate,
    residue_table,
    summary_text,
)
from model.figures.dyna1 import draw_metrics
from model.figures.save import save_figure

LOGGER: Final = logging.getLogger("seqdance")
PUBLISHED: Final = ("relaxdb", "cpmg")
TARGET_OPTIONS: Final = ("missing_only", "rex_only", "unsuppressed")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Settings):
    """Measure a classifier per protein, beside naive baselines."""

    data: str
    """relaxdb or cpmg with --file, or a label table (CSV) with entry_ID, sequence, label, source, cluster."""
    output: Path
    """Folder to write, not that of the weights."""
    file: Path | None = None
    """File of relaxdb or cpmg: the published JSON, a folder of pickles, or a label table."""
    split: Path | None = None
    """List of the entries to evaluate, one per line. Default: all."""
    weights: str | None = None
    """Classifier: folder (best/ of a training), published weight file, or Hub id. Default: baselines alone."""
    embedder: str | None = None
    """onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], af2:FOLDER, cache:FILE.h5. Default: by the weights."""
    train: Path | None = None
    """Label table to fit the naive baselines on."""
    baselines: Path | None = None
    """Instead: folder with probs_aa.csv, probs_dssp.csv, probs_aa_dssp.csv."""
    missing_only: bool = False
    """Only missing signals are positive."""
    rex_only: bool = False
    """Only exchange is positive; missing signals are not evaluated."""
    unsuppressed: bool = False
    """cpmg: exchange seen only without its suppression (Y) is positive."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the bootstrap over proteins."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Proteins at a time. Logits are rounded, so that areas and F1 do not depend on it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto uses a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        require(self.weights or not self.embedder, f"--embedder {self.embedder}: give --weights too, or remove it")
        require(not (self.train and self.baselines), "--train fits baselines, --baselines reads them; give one of them")
        require(self.weights or self.train or self.baselines, "give --weights, --train or --baselines to evaluate")
        published = self.data in PUBLISHED
        require(self.file or not published, f"--data {self.data}: give its --file")
        require(
            published or not self.file, f"--data {self.data} is a table; remove --file, or give --data relaxdb or cpmg"
        )
        if self.weights and Path(self.weights).exists():
            weights, output = Path(self.weights).resolve(), self.output.resolve()
            folder = weights if weights.is_dir() else weights.parent
            require(
                folder not in (output, *output.parents),
                f"--output {self.output}: this is the folder of the weights; give another folder",
            )

    @property
    def path(self) -> Path:
        """File or folder of the data."""
        return self.file or Path(self.data)

    def assignments(self) -> tuple[pd.DataFrame, list[str]]:
        """Table of the entries to evaluate, and the names on the split list that the data lack."""
        published = self.data in PUBLISHED and self.path.suffix != ".csv"
        table = read_relaxdb(self.path, self.data) if published else read_assignments(self.path)  # type: ignore[arg-type]
        if self.split is None:
            return table, []
        table, absent = select_entries(table, read_split_list(self.split))
        if absent:
            LOGGER.warning("warning: %s lacks, of %s, %s", self.path, self.split, first_names(absent))
        require(len(table), f"{self.split}: {self.path} has none of its entries")
        return table, absent


def evaluate_dyna1(options: EvaluateOptions) -> list[str]:
    """Write all files of the output folder; returns the summary."""
    table, absent = options.assignments()
    target_options = {name: getattr(options, name) for name in TARGET_OPTIONS}
    proteins = annotated_proteins(table, str(options.path), **target_options)
    scores: dict[str, Scores] = {}
    if options.weights is not None:
        model = load_dyna1(options.weights, options.device)
        source = make_embedder(options.embedder or default_embedder(model.config), options.device)
        check_source(model.config, source)
        scores[CLASSIFIER] = classifier_scores(model, proteins, source.read, options.batch_size)
    baselines = read_baselines(options.baselines) if options.baselines else []
    if options.train:
        training = read_proteins(options.train)
        baselines = fit_baselines(training, read_dssp(options.train, training))
    dssp = {} if options.path.is_dir() else read_dssp(options.path, proteins)
    scores |= baseline_scores(baselines, proteins, dssp, options.path)
    require(scores, f"{options.path}: no DSSP for the baselines; add a column dssp, or give --weights")

    found, per_protein = evaluate(proteins, scores, options.seed)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    metrics: dict[str, Any] = {"settings": settings, "absent": absent, **found}
    chosen = [name.replace("_", "-") for name, value in target_options.items() if value]
    text = summary_text(metrics, f"{options.data} ({', '.join(chosen)})" if chosen else options.data)
    output = options.output
    for name, content in (("per_protein.csv", per_protein), ("residues.csv", residue_table(proteins, scores))):
        with whole_file(output / name) as temporary:
            content.to_csv(temporary, index=False)
    write_text(output / "metrics.json", json.dumps(without_nan(metrics), indent=2, allow_nan=False) + "\n")
    write_text(output / "summary.txt", text)
    save_figure(draw_metrics(per_protein, metrics, CLASSIFIER), output / "distribution.png", dpi=150)
    return text.splitlines()


def without_nan(value: Any) -> Any:
    """The same with null for NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    return None if value != value else value


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    run(EvaluateOptions, evaluate_dyna1, args)
