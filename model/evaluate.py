"""Compare trained networks with baselines on the test entries: losses and correlations.

    python model/evaluate.py --checkpoint RUN/checkpoints/update_200000 --table T.csv --store F.h5 --loss-weights W.csv
    torchrun --nproc_per_node=4 model/evaluate.py --run-folder RUN --structures FOLDER ...

The first command evaluates one checkpoint. The second evaluates each checkpoint of a training run without current
metrics and writes RUN/metrics/update_N.json. Baselines are means over the training entries and, for entries with a
structure, its slowest modes (`model.evaluation.baselines`, `model.evaluation.elastic_networks`).

The paper reports medians over proteins of the correlation of fluctuations (rmsf_nor) and co-movements (corr).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings, parse
from data_prepare.errors import require
from data_prepare.files import whole_file
from data_prepare.properties import ALL_GROUPS
from model.config import MAX_TOKENS
from model.training.command_line import run_distributed

if TYPE_CHECKING:
    import pandas as pd

    from data_prepare.dataset.loss_weights import Weights
    from model.training.processes import Process


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Settings):
    """Evaluate a network, or each checkpoint of a training run, on the test entries."""

    checkpoint: Annotated[str | None, tyro.conf.arg(aliases=["--model"])] = None
    """seqdance, esmdance, demo, a folder with model.safetensors and config.json, a weight file, or a Hub id."""
    run_folder: Path | None = None
    """Instead: folder of a training run, also of the published script. Evaluates its checkpoints without current
    metrics for these settings."""
    table: Path = Path("data/table.csv")
    """Training table: name, modify_seq, source, label."""
    store: Path = Path("data/features.h5")
    """Feature store of the entries of the table."""
    loss_weights: Annotated[Path, tyro.conf.arg(aliases=["--weights"])] = Path("data/loss_weights.csv")
    """Loss weights: a row per property, a column per group."""
    structures: Path | None = None
    """Folder of structures NAME.pdb or NAME.cif (also .gz) of test entries, for elastic networks."""
    output: Path | None = None
    """With --checkpoint: file of the metrics. Default: metrics.json."""
    per_protein: Path | None = None
    """With --checkpoint: CSV of the metrics of each protein and property."""
    length: Annotated[int, Field(ge=1)] = MAX_TOKENS
    """Longer proteins are cut after this number of tokens."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Maximal number of proteins per batch; does not change the metrics."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the forward pass. bf16 is faster on a GPU and rounds differently; losses are summed in fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto uses a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        require(bool(self.checkpoint) != bool(self.run_folder), "give exactly one of --checkpoint and --run-folder")
        require(
            not (self.run_folder and (self.output or self.per_protein)),
            "--run-folder: remove --output and --per-protein, which require --checkpoint",
        )
        require(
            self.structures is None or self.structures.is_dir(),
            f"--structures {self.structures}: no such folder; expected NAME.pdb or NAME.cif of test entries",
        )

    def settings(self) -> dict[str, Any]:
        """Options that the metrics depend on; `batch_size` and `device` only change their rounding."""
        paths = {name: getattr(self, name) for name in ("table", "store", "loss_weights", "structures")}
        texts = {name: None if path is None else str(path) for name, path in paths.items()}
        return {"length": self.length, "precision": self.precision, **texts}


def evaluate(options: EvaluateOptions, process: Process) -> None:
    """Write and print the metrics of one checkpoint, or of the checkpoints of a run without current metrics."""
    from data_prepare.dataset.store import FeatureStore
    from model.evaluation.report import (
        checkpoints_text,
        load_checkpoint,
        metrics_text,
        unmeasured_checkpoints,
        write_metrics,
    )
    from model.evaluation.test_set import Evaluation

    run, settings, evaluation = options.run_folder, options.settings(), None
    if run is None:
        wanted = {str(options.checkpoint): options.output or Path("metrics.json")}
    else:
        wanted = process.first(partial(unmeasured_checkpoints, run, settings))
    table, weights = process.first(partial(read_data, options))
    for checkpoint, path in wanted.items():
        model = process.first(partial(load_checkpoint, checkpoint, of_run=run is not None))
        if model is None:
            continue
        if evaluation is None:  # takes long, so errors of the first checkpoint show before
            sizes = (options.length, options.batch_size, options.precision, options.structures)
            evaluation = Evaluation(table, FeatureStore(options.store), weights, process, *sizes)
        rows = evaluation.measure(model.to(process.device))
        if process.rank == 0:
            metrics = evaluation.metrics(rows)
            write_metrics(path, checkpoint, model.label, settings, metrics)
            if options.per_protein is not None:
                with whole_file(options.per_protein) as temporary:
                    evaluation.per_protein(rows).to_csv(temporary, index=False)
            if run is None:
                print(metrics_text(metrics))
    if run is not None and process.rank == 0:
        print(checkpoints_text(run))


def read_data(options: EvaluateOptions) -> tuple[pd.DataFrame, Weights]:
    """Training table and loss weights; one error line names all missing files."""
    from data_prepare.dataset.loss_weights import read_loss_weights
    from data_prepare.dataset.table import read_table
    from model.training.data import require_files

    require_files(table=options.table, store=options.store, loss_weights=options.loss_weights)
    table = read_table(options.table)
    tested = set(table["group"][table["label"] == "test"])
    return table, read_loss_weights(options.loss_weights, [group for group in ALL_GROUPS if group in tested])


main = partial(run_distributed, partial(parse, EvaluateOptions), evaluate)

if __name__ == "__main__":
    main()
