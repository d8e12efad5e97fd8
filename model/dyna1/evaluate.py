"""Measure a classifier of Dyna-1 on RelaxDB, RelaxDB-CPMG or a label table, beside naive baselines.

    seqdance dyna1 evaluate --data relaxdb --file RelaxDB.json --weights runs/dyna1_onehot/best \\
        --train LABELS.csv --output runs/dyna1_onehot/relaxdb

The folder `--output` gets metrics.json, summary.txt, per_protein.csv, residues.csv and distribution.png.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import torch
import tyro
from numpy.typing import NDArray

from data_prepare.errors import InputError, run_command
from data_prepare.files import whole_file, write_text
from data_prepare.nmr.assignments import read_assignments
from data_prepare.nmr.relaxdb import read_relaxdb, read_split_list, select_entries
from model.dyna1.baselines import Baseline, fit_baselines, read_baselines, read_dssp
from model.dyna1.classifier import Classifier, p_exchange
from model.dyna1.data import (
    AnnotatedProtein,
    ReadEmbedding,
    annotated_proteins,
    first_names,
    read_proteins,
    whole_batches,
)
from model.dyna1.embeddings.embedders import make_embedder
from model.dyna1.loading import load_dyna1
from model.dyna1.metrics import FEWEST_POSITIVES, by_chance, per_protein, summarise
from model.dyna1.sources import check_source, default_embedder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOGGER: Final = logging.getLogger("seqdance")
PUBLISHED: Final = ("relaxdb", "cpmg")
CLASSIFIER: Final = "Dyna-1"
TIE: Final = 1e-5  # logits of a protein that are as near as this are equal but for rounding
DECIMALS: Final = 5  # of logits
TITLES: Final = {"auroc": "AUROC", "normalised_auprc": "AUPRC - positive rate"}


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a classifier per protein, beside naive baselines."""

    data: str
    """relaxdb or cpmg with --file, or a label table (CSV) with entry_ID, sequence, label, source, cluster."""
    output: Path
    """Folder to write; never that of the weights."""
    file: Path | None = None
    """Where relaxdb or cpmg is: the published JSON, a folder of pickles, or a label table."""
    split: Path | None = None
    """List of the entries to evaluate, one a line. Default: all."""
    weights: str | None = None
    """Classifier: folder (best/ of a training), published weight file, or Hub id. Default: baselines alone."""
    embedder: str | None = None
    """onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], af2:FOLDER, cache:FILE.h5. Default: by the weights."""
    train: Path | None = None
    """Label table that the naive baselines are fitted on."""
    baselines: Path | None = None
    """Instead: folder with probs_aa.csv, probs_dssp.csv, probs_aa_dssp.csv."""
    missing_only: bool = False
    """Only missing signals are positive."""
    rex_only: bool = False
    """Only exchange is positive; missing signals are not evaluated."""
    unsuppressed: bool = False
    """cpmg: exchange that is seen only without its suppression (Y) is positive."""
    seed: int = 0
    """Of the bootstrap over proteins."""
    batch_size: int = 16
    """Proteins at a time. Logits are rounded, so that areas and F1 do not depend on it."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""

    def check(self) -> None:
        """See that the options go together; InputError if they do not."""
        if self.weights is None and self.embedder is not None:
            raise InputError(f"--embedder {self.embedder} goes with --weights")
        if self.train is not None and self.baselines is not None:
            raise InputError("--train fits the baselines, --baselines reads them; give one of the two")
        if self.weights is None and self.train is None and self.baselines is None:
            raise InputError("nothing to evaluate; give --weights, --train or --baselines")
        if self.batch_size < 1:
            raise InputError(f"--batch-size {self.batch_size}: at least 1")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: at least 0")
        known = self.data in PUBLISHED
        if known and self.file is None:
            raise InputError(f"--data {self.data}: give its --file")
        if not known and self.file is not None:
            raise InputError(f"--data {self.data} is the table; leave --file out, or give --data relaxdb or cpmg")
        if self.weights is not None and Path(self.weights).exists():
            weights, output = Path(self.weights).resolve(), self.output.resolve()
            folder = weights if weights.is_dir() else weights.parent
            if folder in (output, *output.parents):
                raise InputError(f"--output {self.output}: that is where the weights are; give another folder")


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Measure, write all files of the output folder and return the content of metrics.json."""
    config.check()
    proteins, absent = read_data(config)
    scores = all_scores(config, proteins)
    targets = {protein.name: protein.target for protein in proteins}
    tables = {name: per_protein(targets, values) for name, values in scores.items()}
    metrics: dict[str, Any] = {
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()},
        "absent": absent,
        "chance": by_chance(next(iter(tables.values()))),
        "predictors": {name: summarise(targets, values, config.seed) for name, values in scores.items()},
    }
    table = pd.concat([part.assign(predictor=name) for name, part in tables.items()], ignore_index=True)
    residues = residue_table(proteins, scores)
    for name, content in (("per_protein.csv", table), ("residues.csv", residues)):
        with whole_file(config.output / name) as temporary:
            content.to_csv(temporary, index=False)
    write_text(config.output / "metrics.json", json.dumps(_without_nan(metrics), indent=2, allow_nan=False) + "\n")
    write_text(config.output / "summary.txt", report(metrics))
    plot_distributions(tables, metrics["predictors"], metrics["chance"], config.output / "distribution.png")
    return metrics


def read_data(config: EvaluateConfig) -> tuple[list[AnnotatedProtein], list[str]]:
    """Proteins to evaluate, and the names of the split list that the data do not have."""
    path = config.file or Path(config.data)
    if config.data in PUBLISHED and path.suffix != ".csv":
        table = read_relaxdb(path, config.data)  # type: ignore[arg-type]
    else:
        table = read_assignments(path)
    absent: list[str] = []
    if config.split is not None:
        table, absent = select_entries(table, read_split_list(config.split))
        if absent:
            LOGGER.warning("warning: %s lacks, of %s, %s", path, config.split, first_names(absent))
        if table.empty:
            raise InputError(f"{config.split}: {path} has none of its entries")
    options = {name: getattr(config, name) for name in ("missing_only", "rex_only", "unsuppressed")}
    return annotated_proteins(table, str(path), **options), absent


def all_scores(
    config: EvaluateConfig, proteins: Sequence[AnnotatedProtein]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Predictor -> entry -> probabilities (L,); the classifier first."""
    scores: dict[str, dict[str, NDArray[np.float64]]] = {}
    if config.weights is not None:
        model = load_dyna1(config.weights, config.device)
        source = make_embedder(config.embedder or default_embedder(model.config), config.device)
        check_source(model.config, source)
        logits = logits_of(model, proteins, source.read, config.batch_size)
        for name, row in logits.items():
            if not np.isfinite(row).all():
                where = f"{config.weights} and the embeddings ({source.fingerprint})"
                raise InputError(f"{name}: logits that are not finite; look at {where}")
        # in float64 no two different logits come to the same probability
        scores[CLASSIFIER] = {name: p_exchange(torch.from_numpy(settled(row))).numpy() for name, row in logits.items()}
    path = config.file or Path(config.data)
    dssp = {} if path.is_dir() else read_dssp(path, proteins)
    for baseline in naive_baselines(config):
        if "dssp" in baseline.columns and (without := [p.name for p in proteins if p.name not in dssp]):
            names = first_names(without)
            LOGGER.warning("warning: baseline %s left out: %s has no DSSP of %s", baseline.name, path, names)
            continue
        scores[baseline.name] = {protein.name: baseline.scores(protein, dssp) for protein in proteins}
    if not scores:
        raise InputError(f"nothing to evaluate: {path} has no DSSP for the baselines; add it, or give --weights")
    return scores


def settled(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits (L,) of a protein without the rounding errors that would break ties.

    Equal letters of one-hot embeddings have equal logits; what the forward pass rounds differs with the batch and would
    put them into another order each time. Logits as near as `TIE` become their mean, which is rounded: rounding alone
    would still part those that lie on both sides of a boundary.
    """
    values = logits.astype(np.float64)
    order = np.argsort(values)
    group = np.cumsum(np.diff(values[order], prepend=values[order[0]]) > TIE)
    means = np.bincount(group, values[order]) / np.bincount(group)
    result = np.empty_like(values)
    result[order] = means.round(DECIMALS)[group]
    return result


def naive_baselines(config: EvaluateConfig) -> list[Baseline]:
    """Baselines that are asked for, fitted or read."""
    if config.baselines is not None:
        return read_baselines(config.baselines)
    if config.train is None:
        return []
    proteins = read_proteins(config.train)
    return fit_baselines(proteins, read_dssp(config.train, proteins))


def logits_of(
    model: Classifier, proteins: Sequence[AnnotatedProtein], read: ReadEmbedding, size: int, precision: str = "fp32"
) -> dict[str, NDArray[np.float32]]:
    """Logits of whole proteins in evaluation mode, into which the model is put.

    Parameters
    ----------
    model
        The classifier.
    proteins, read
        Proteins and what gives their embeddings.
    size
        Proteins at a time.
    precision
        fp32 or bf16, of the forward pass.

    Returns
    -------
    Entry -> (L,) float32.
    """
    model.eval()
    device = next(model.parameters()).device
    logits: dict[str, NDArray[np.float32]] = {}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for batch in whole_batches(proteins, read, size):
            batch = batch.to(device)
            rows = model(batch.embedding, batch.padding).float().cpu().numpy()  # (B, L)
            lengths = (~batch.padding).sum(dim=1).tolist()
            logits |= {name: row[:n] for name, row, n in zip(batch.names, rows, lengths, strict=True)}
    return logits


def residue_table(
    proteins: Sequence[AnnotatedProtein], scores: Mapping[str, Mapping[str, NDArray[np.float64]]]
) -> pd.DataFrame:
    """entry_ID, position (from 1), residue, target, and the probability of each predictor."""
    parts = []
    for protein in proteins:
        columns: dict[str, Any] = {
            "entry_ID": protein.name,
            "position": np.arange(1, len(protein.sequence) + 1),
            "residue": list(protein.sequence),
            "target": protein.target,
        }
        parts.append(pd.DataFrame(columns | {name: values[protein.name] for name, values in scores.items()}))
    return pd.concat(parts, ignore_index=True)


def report(metrics: Mapping[str, Any]) -> str:
    """The numbers for reading."""
    predictors, settings = metrics["predictors"], metrics["settings"]
    first = next(iter(predictors.values()))
    options = [name.replace("_", "-") for name in ("missing_only", "rex_only", "unsuppressed") if settings[name]]
    lines = [
        f"{settings['data']}{' (' + ', '.join(options) + ')' if options else ''}: {first['proteins']} proteins count, "
        f"{first['evaluated']:,} residues evaluated, {first['positives']:,} positive "
        f"({100 * first['positives'] / max(first['evaluated'], 1):.1f} %)"
    ]
    if first["left_out"]:
        lines.append(f"fewer than {FEWEST_POSITIVES} positives: {', '.join(first['left_out'])}")
    if metrics["absent"]:
        lines.append(f"on the split list, not in the data: {', '.join(metrics['absent'])}")
    heads = ("", "AUROC (95 %)", "AUPRC - rate (95 %)", "AUPRC", "best F1", "precision", "recall", "at p >=")
    rows = [heads]
    for name, numbers in predictors.items():
        areas = _interval(numbers["auroc"]), _interval(numbers["normalised_auprc"]), f"{numbers['auprc']['mean']:.3f}"
        pooled = (f"{numbers['pooled'][key]:.3f}" for key in ("f1", "precision", "recall", "threshold"))
        rows.append((name, *areas, *pooled))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines.append("")
    lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    chance = metrics["chance"]
    lines += ["", f"By chance: AUROC {chance['auroc']:.3f}, AUPRC - rate {chance['normalised_auprc']:.3f}."]
    lines += ["Areas are means over proteins; F1, precision and recall are of all residues together."]
    return "\n".join(lines) + "\n"


def _interval(numbers: Mapping[str, float]) -> str:
    return f"{numbers['mean']:.3f} ({numbers['low']:.3f} to {numbers['high']:.3f})"


def plot_distributions(
    tables: Mapping[str, pd.DataFrame],
    summaries: Mapping[str, Mapping[str, Any]],
    chance: Mapping[str, float],
    path: Path,
) -> None:
    """Draw AUROC and normalised AUPRC of each protein, a column for each predictor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 + 1.7 * len(tables) * len(TITLES), 4.2), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, len(TITLES)), TITLES.items(), strict=True):
        axes.axhline(chance[metric], color="#999999", linewidth=1, linestyle="--", zorder=0)
        for place, (name, table) in enumerate(tables.items()):
            draw_distribution(axes, place, table[metric].dropna().to_numpy(), summaries[name][metric], name)
        axes.set_xticks(range(len(tables)), [name.replace(" + ", "\n+ ") for name in tables])
        axes.set_xlim(-0.6, len(tables) - 0.4)
        axes.set_ylabel(f"{title}, per protein")
        axes.spines[["top", "right"]].set_visible(False)
    number = next(iter(summaries.values()))["proteins"]
    figure.suptitle(f"{number} proteins; mean with 95 % interval; dashed: by chance", fontsize=11)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def draw_distribution(
    axes: Axes, place: int, values: NDArray[np.float64], interval: Mapping[str, float], name: str
) -> None:
    """Values of the proteins as dots, their mean with its interval beside them."""
    if not len(values):
        return
    colour = "#D55E00" if name == CLASSIFIER else "#0072B2"
    spread = np.random.default_rng(0).uniform(-0.22, 0.08, len(values))
    axes.plot(place + spread, values, "o", color=colour, markersize=3.5, alpha=0.45, markeredgewidth=0)
    mean, low, high = (interval[key] for key in ("mean", "low", "high"))
    axes.errorbar(
        place + 0.2, mean, [[mean - low], [high - mean]], fmt="s", color="black", markersize=5, capsize=3, linewidth=1.5
    )
    label = axes.annotate(f"{mean:.3f}", (place + 0.2, mean), xytext=(7, 0), textcoords="offset points")
    label.set(va="center", fontsize=9, bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "linewidth": 0})


def _without_nan(value: Any) -> Any:
    """Numbers that do not exist are null in JSON."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def main(args: Sequence[str] | None = None) -> None:
    """Command line."""
    config = run_command(lambda: tyro.cli(EvaluateConfig, args=args))
    print(report(run_command(lambda: evaluate(config), config.debug)), end="")


if __name__ == "__main__":
    main()
