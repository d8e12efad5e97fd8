"""Losses and correlations of trained networks on the test entries, beside baselines.

    python model/evaluate.py --checkpoint RUN/checkpoints/update_200000 --table T.csv --store F.h5 --weights W.csv
    torchrun --nproc_per_node=4 model/evaluate.py --run-folder RUN --structures FOLDER ...

The first measures one checkpoint, the second each checkpoint of a training run that has not been measured yet, into
RUN/metrics/update_N.json. Baselines: means fitted on the training entries (`model.evaluation.baselines`) and, for
entries with a structure, its slowest modes (`model.evaluation.elastic_networks`).

The paper's table is the median over proteins of the correlation of fluctuations (rmsf_nor) and co-movements (corr).
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from data_prepare.dataset.loss_weights import Weights, read_loss_weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.table import read_table
from data_prepare.errors import InputError, run_command
from data_prepare.files import whole_file, write_text
from data_prepare.properties import (
    GROUPS,
    NMA_GROUPS,
    PROPERTIES,
    RESIDUE_COLUMNS,
    properties_of_group,
)
from model.evaluation.baselines import Baselines
from model.evaluation.elastic_networks import structure_profiles
from model.evaluation.protein_scores import CORRELATED, LEARNT, NUMBERS, OF_NETWORKS, PREDICTORS, Scored, score, single
from model.evaluation.report import report, report_of_run
from model.network.dance import DanceModel, load_model
from model.training.checkpoint import checkpoints
from model.training.data import Batch, Sequences, collate, group_sequences, load_entry, require_files
from model.training.processes import Process, run_process

LOGGER: Final = logging.getLogger("seqdance")

Predictor = Callable[[Batch], Mapping[str, Tensor]]


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a network on the test entries, or each checkpoint of a training run."""

    checkpoint: str | None = None
    """Folder with model.safetensors and config.json, weight file, or Hub id."""
    run_folder: Path | None = None
    """Instead: folder of a training. Checkpoints without whole metrics of these settings are evaluated."""
    table: Path = Path("data/table.csv")
    """Training table: name, modify_seq, source, label."""
    store: Path = Path("data/features.h5")
    """Feature store of the entries of the table."""
    weights: Path = Path("data/loss_weights.csv")
    """Loss weights: rows properties, columns groups."""
    structures: Path | None = None
    """Folder of structures NAME.pdb or NAME.cif (also .gz) of test entries, for the elastic networks."""
    output: Path | None = None
    """With --checkpoint: file of the numbers, by default metrics.json. Those of a run go to its folder metrics."""
    per_protein: Path | None = None
    """With --checkpoint: CSV of the numbers of each protein and property."""
    length: int = 1024
    """Longer proteins are cut after this number of tokens."""
    batch_size: int = 16
    """Most proteins of similar length at a time; changes no number."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network's forward pass. bf16 is faster on a GPU and gives other digits; losses are summed in fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        if self.length < 1 or self.batch_size < 1:
            raise InputError(f"--length {self.length}, --batch-size {self.batch_size}: both are at least 1")
        if (self.checkpoint is None) == (self.run_folder is None):
            raise InputError("nothing or too much to evaluate; give either --checkpoint or --run-folder")
        if self.run_folder is not None and (self.output or self.per_protein):
            raise InputError("--output and --per-protein are for one --checkpoint; leave them out with --run-folder")

    def settings(self) -> dict[str, Any]:
        """What the numbers of a checkpoint depend on; `batch_size` and `device` change their rounding only."""
        paths = {"table": self.table, "store": self.store, "weights": self.weights, "structures": self.structures}
        texts = {name: None if path is None else str(path) for name, path in paths.items()}
        return {"length": self.length, "precision": self.precision, **texts}


def evaluate(
    model: DanceModel,
    table: pd.DataFrame,
    store: FeatureStore,
    weights: Weights,
    length: int = 1024,
    batch_size: int = 16,
    precision: str = "fp32",
    structures: Path | None = None,
    process: Process | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Losses and correlations of a network and of the baselines on the test entries.

    Parameters
    ----------
    model
        The network; it is put into evaluation mode.
    table, store, weights
        As `read_table`, `FeatureStore` and `read_loss_weights` give them. Baselines are fitted on the entries labelled
        train, everything else is about those labelled test.
    length
        Tokens of a protein that are used, from its first.
    batch_size
        Most proteins at a time.
    precision
        fp32 or bf16, of the network's forward pass.
    structures
        Folder of structures, see `structure_profiles`.
    process
        This one among several that deal the entries among themselves; by default it is alone.
    progress
        Show progress bars.

    Returns
    -------
    dict
        As `Evaluation.metrics`.

    Raises
    ------
    InputError
        There is no test entry, or no training entry of a group that has test entries.
    """
    process = process or Process(next(model.parameters()).device)
    test, train = (group_sequences(table, store, label) for label in ("test", "train"))
    evaluation = Evaluation(store, test, train, weights, process, length, batch_size, precision, structures, progress)
    return evaluation.metrics(evaluation.scores(model))


class Evaluation:
    """The test entries and what the baselines make of them; one network after the other is measured on them.

    The batches are the same for any number of processes, and dealt to them: so are the numbers.

    Parameters
    ----------
    store, weights
        Features and loss weights.
    test, train
        Entries as `group_sequences` gives them.
    process, length, batch_size, precision, structures, progress
        As in `evaluate`.
    """

    def __init__(
        self,
        store: FeatureStore,
        test: Sequences,
        train: Sequences,
        weights: Weights,
        process: Process,
        length: int = 1024,
        batch_size: int = 16,
        precision: str = "fp32",
        structures: Path | None = None,
        progress: bool = True,
    ) -> None:
        groups = process.first(lambda: usable_groups(store, test, train))
        self.store, self.weights, self.process = store, weights, process
        self.length, self.precision, self.structures = length, precision, structures
        self.progress = progress and process.rank == 0
        self.names = {group: [name for name, _ in test[group]] for group in groups}
        self._sequences = {name: sequence for group in groups for name, sequence in test[group]}
        self._plan = {
            group: length_batches(store, test[group], length, batch_size)[process.rank :: process.processes]
            for group in groups
        }
        self.without: dict[str, str] = {}  # entry -> why it has no structure
        self._resolved: dict[str, Tensor] = {}  # entry of this process -> (T,) bool, tokens that its structure has
        self.baselines = self._baselines(train)

    def scores(self, model: DanceModel) -> list[Scored]:
        """Numbers of a network, of the entries of all processes."""
        model.eval()

        def predict(batch: Batch) -> Mapping[str, Tensor]:
            with torch.autocast(batch.residue.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                return model(batch.input_ids, batch.attention_mask)

        return self._gather([row for group in self.names for row in self._measure(group, {"model": predict})])

    def _baselines(self, train: Sequences) -> list[Scored]:
        """Numbers of all baselines; notes which entries have a structure, and where."""
        rows: list[Scored] = []
        for group in self.names:
            if self.structures is not None and group not in NMA_GROUPS:  # these are the target there
                rows += self._networks(group, self.structures)
            fitted = Baselines.fit(group, self.store, train[group], self.process, self.progress)
            rows += self._measure(group, {"mean": fitted.mean, "sequence": fitted.sequence})
        gathered = self.process.gather(self.without)
        self.without = {entry: reason for found in gathered for entry, reason in found.items()}
        if self.without:
            reason = next(iter(self.without.values()))
            LOGGER.warning("warning: %d test entries have no structure, the first: %s", len(self.without), reason)
        return self._gather(rows)

    def _networks(self, group: str, folder: Path) -> Iterator[Scored]:
        """Numbers of the elastic networks of this process's entries."""
        for batch in self._batches(group, f"networks, {group}"):
            for row, entry in enumerate(batch.names):
                protein = single(batch, row)
                n = protein.input_ids.shape[1]
                try:
                    profiles = structure_profiles(folder, entry, self._sequences[entry])
                except InputError as error:
                    self.without[entry] = str(error)
                    continue
                for network, profile in profiles.items():
                    values = {"rmsf_nor": profile.fluctuation[None, :n], "corr": profile.comovement[None, :n, :n]}
                    outputs = {name: torch.from_numpy(value).to(batch.residue.device) for name, value in values.items()}
                    self._resolved[entry] = outputs["rmsf_nor"][0].isfinite()
                    yield from score(network, outputs, protein, self.weights[group], self._resolved[entry])

    def _measure(self, group: str, predictors: Mapping[str, Predictor]) -> Iterator[Scored]:
        """Numbers of predictors on the batches of this process."""
        for batch in self._batches(group, f"{', '.join(predictors)}, {group}"):
            with torch.inference_mode():
                predicted = {name: predict(batch) for name, predict in predictors.items()}
            for row, entry in enumerate(batch.names):
                protein = single(batch, row)
                n = protein.input_ids.shape[1]
                for name, values in predicted.items():
                    outputs = {
                        key: value[row, :n][None] if key in RESIDUE_COLUMNS else value[row, :n, :n][None]
                        for key, value in values.items()
                    }
                    yield from score(name, outputs, protein, self.weights[group], self._resolved.get(entry))

    def _batches(self, group: str, title: str) -> Iterator[Batch]:
        """Batches of this process, one after the other."""
        plan = self._plan[group]
        with tqdm(total=sum(map(len, plan)), desc=title, unit="entry", disable=not self.progress) as bar:
            for entries in plan:
                held = [load_entry(self.store, *entry, group, 0, self.length) for entry in entries]
                yield collate(group, held).to(self.process.device)
                bar.update(len(entries))

    def _gather(self, own: list[Scored]) -> list[Scored]:
        """Rows of all processes, in an order that does not depend on their number."""
        return self._ordered([row for rows in self.process.gather(own) for row in rows])

    def _ordered(self, rows: list[Scored]) -> list[Scored]:
        """Rows by group, entry as in the table, property and predictor."""
        order = {entry: place for place, entry in enumerate(self._sequences)}

        def key(row: Scored) -> tuple[int, int, int]:
            return order[row.entry], PROPERTIES.index(row.property), PREDICTORS.index(row.predictor)

        return sorted(rows, key=key)

    def metrics(self, network: list[Scored]) -> dict[str, Any]:
        """Numbers of a network and of the baselines.

        Parameters
        ----------
        network
            As `scores` gives it.

        Returns
        -------
        dict
            group -> `entries` (number), and for `model`, `mean` and `sequence` each: `loss` (weighted sum),
            `properties` (property -> loss as in training: mean over proteins of the RMSE) and, for MD groups,
            `correlations` (property -> `pearson` and `spearman`, medians over proteins, and `proteins`, for how many
            they exist). What does not exist is None.

            If structures were given, MD groups have `structures` as well: `entries` (how many have one), `without`
            (entry -> why not) and `correlations` (predictor -> property -> as above, `gnm` and `anm` too), of these
            entries and over the positions that the structure has.
        """
        found: dict[tuple[str, str, str], list[Scored]] = defaultdict(list)
        for row in self.baselines + network:
            found[row.group, row.predictor, row.property].append(row)
        result: dict[str, Any] = {}
        for group, entries in self.names.items():
            result[group] = {"entries": len(entries)}
            names = properties_of_group(group)
            for predictor in LEARNT:
                losses = {name: _mean(row.loss for row in found[group, predictor, name]) for name in names}
                total = sum(self.weights[group][name] * (loss or 0.0) for name, loss in losses.items())
                result[group][predictor] = {"loss": total, "properties": losses}
                if group not in NMA_GROUPS:
                    result[group][predictor]["correlations"] = {
                        name: _medians((row.pearson, row.spearman) for row in found[group, predictor, name])
                        for name in CORRELATED
                    }
            if self.structures is not None and group not in NMA_GROUPS:
                without = {entry: self.without[entry] for entry in entries if entry in self.without}
                result[group]["structures"] = {
                    "entries": len(entries) - len(without),
                    "without": without,
                    "correlations": {
                        predictor: {
                            name: _medians(
                                (row.pearson_resolved, row.spearman_resolved) for row in found[group, predictor, name]
                            )
                            for name in OF_NETWORKS
                        }
                        for predictor in PREDICTORS
                    },
                }
        return result

    def per_protein(self, network: list[Scored]) -> pd.DataFrame:
        """One row an entry and property; columns `loss_model`, `pearson_model`, ..., except those without numbers."""
        rows: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        for row in self._ordered(self.baselines + network):
            for kind in NUMBERS:
                rows[row.group, row.entry, row.property][f"{kind}_{row.predictor}"] = getattr(row, kind)
        keys = pd.DataFrame(list(rows), columns=["group", "entry", "property"])
        columns = [f"{kind}_{predictor}" for kind in NUMBERS for predictor in PREDICTORS]
        return keys.join(pd.DataFrame(list(rows.values()), columns=columns).dropna(axis="columns", how="all"))


def usable_groups(store: FeatureStore, test: Sequences, train: Sequences) -> list[str]:
    """Groups that have test entries.

    Raises
    ------
    InputError
        None has, or one that has some has no training entry.
    """
    groups = [group for group in GROUPS if test[group]]
    if not groups:
        raise InputError(f"{store.path}: no entry labelled test in the table is in the store; nothing to evaluate")
    if unfitted := [group for group in groups if not train[group]]:
        raise InputError(f"{store.path}: no training entry of {', '.join(unfitted)} to fit the baselines on")
    if left := [group for group in GROUPS if group not in groups]:
        LOGGER.warning("warning: no test entry of %s", ", ".join(left))
    return groups


def length_batches(
    store: FeatureStore, entries: Sequence[tuple[str, str]], length: int, batch_size: int
) -> list[list[tuple[str, str]]]:
    """Entries (name, modify_seq) in batches, shortest first; none has more pairs than one protein of `length`."""
    lengths = {name: min(store.length(name), length) for name, _ in entries}
    batches: list[list[tuple[str, str]]] = []
    for entry in sorted(entries, key=lambda entry: lengths[entry[0]]):
        held = len(batches[-1]) if batches else batch_size
        if held == batch_size or (held + 1) * lengths[entry[0]] ** 2 > length**2:
            batches.append([])
        batches[-1].append(entry)
    return batches


def _mean(values: Iterable[float]) -> float | None:
    """Mean of the numbers that exist."""
    kept = [value for value in values if not math.isnan(value)]
    return math.fsum(kept) / len(kept) if kept else None


def _medians(pairs: Iterable[tuple[float, float]]) -> dict[str, float | None]:
    kept = [pair for pair in pairs if not math.isnan(pair[0])]
    pearson, spearman = np.median(kept, axis=0).tolist() if kept else (None, None)
    return {"pearson": pearson, "spearman": spearman, "proteins": len(kept)}


def open_data(config: EvaluateConfig) -> tuple[Sequences, Sequences, Weights]:
    """Test entries, training entries and loss weights; one line names all files that are missing."""
    require_files(table=config.table, store=config.store, weights=config.weights)
    if config.structures is not None and not config.structures.is_dir():
        raise InputError(
            f"--structures {config.structures}: no such folder; it holds NAME.pdb or NAME.cif of test entries"
        )
    table = read_table(config.table)
    with FeatureStore(config.store) as store:
        test, train = (group_sequences(table, store, label) for label in ("test", "train"))
    return test, train, read_loss_weights(config.weights)


def choose_checkpoints(config: EvaluateConfig) -> dict[str, Path]:
    """Checkpoints to evaluate -> file of their numbers; of a run, those that have no file of these settings yet."""
    if config.run_folder is None:
        return {str(config.checkpoint): config.output or Path("metrics.json")}
    found = checkpoints(config.run_folder / "checkpoints")
    if not found:
        raise InputError(f"{config.run_folder}: no checkpoints in it; give the --output of a training")
    made = {checkpoint: metrics_of(config.run_folder, checkpoint) for checkpoint in found}
    return {str(checkpoint): path for checkpoint, path in made.items() if not is_measured(checkpoint, path, config)}


def metrics_of(run: Path, checkpoint: Path) -> Path:
    """File of the numbers of a checkpoint of a run."""
    return run / "metrics" / f"{checkpoint.name}.json"


def is_measured(checkpoint: Path, metrics: Path, config: EvaluateConfig) -> bool:
    """Whether a checkpoint has numbers of these settings that are newer than itself and the data."""
    if not metrics.is_file():
        return False
    made_from = (checkpoint, config.table, config.store, config.weights)
    newest = max((path.stat().st_mtime for path in made_from if path.exists()), default=0.0)
    if metrics.stat().st_mtime <= newest:
        return False
    try:
        content = json.loads(metrics.read_text())
    except ValueError:  # not written by this program
        return False
    return all(content.get(name, "") == value for name, value in config.settings().items())


def run(config: EvaluateConfig) -> None:
    """Evaluate in this process, alone or with the others that torchrun started; write the numbers and print them."""
    run_process(config.device, lambda process: evaluate_chosen(config, process))


def evaluate_chosen(config: EvaluateConfig, process: Process) -> None:
    """The same among the processes that are there."""
    wanted = process.first(lambda: choose_checkpoints(config))
    if wanted:
        measure(config, process, wanted)
    if process.rank == 0 and config.run_folder is not None:
        held = [metrics_of(config.run_folder, path) for path in checkpoints(config.run_folder / "checkpoints")]
        print(report_of_run([path for path in held if path.is_file()]))


def measure(config: EvaluateConfig, process: Process, wanted: Mapping[str, Path]) -> None:
    """Evaluate checkpoints and write the numbers of each; of a single one, print them."""
    test, train, weights = process.first(lambda: open_data(config))
    evaluation = None
    with FeatureStore(config.store) as store:
        for checkpoint, output in wanted.items():
            model = process.first(partial(load, checkpoint, config))
            if model is None:
                continue
            if evaluation is None:  # what is wrong with the first checkpoint shows before the work
                options = (config.length, config.batch_size, config.precision, config.structures)
                evaluation = Evaluation(store, test, train, weights, process, *options)
            rows = evaluation.scores(model.to(process.device))
            if process.rank == 0:
                write(config, checkpoint, output, evaluation, rows)


def write(config: EvaluateConfig, checkpoint: str, output: Path, evaluation: Evaluation, rows: list[Scored]) -> None:
    """Write the numbers of a checkpoint, and print them unless a run is evaluated."""
    metrics = evaluation.metrics(rows)
    content = {"checkpoint": checkpoint, **config.settings(), "groups": metrics}
    write_text(output, json.dumps(content, indent=2, allow_nan=False) + "\n")
    if config.per_protein is not None:
        with whole_file(config.per_protein) as temporary:
            evaluation.per_protein(rows).to_csv(temporary, index=False)
    if config.run_folder is None:
        print(report(metrics))


def load(checkpoint: str, config: EvaluateConfig) -> DanceModel | None:
    """Network of a checkpoint; None if the training that still runs has removed it meanwhile."""
    if config.run_folder is not None and not Path(checkpoint).is_dir():
        LOGGER.warning("warning: %s has been removed", checkpoint)
        return None
    return load_model(checkpoint, "cpu")


def main(args: Sequence[str] | None = None) -> None:
    """Command line."""
    config = tyro.cli(EvaluateConfig, args=args, console_outputs=os.environ.get("RANK", "0") == "0")
    run_command(lambda: run(config), config.debug)


if __name__ == "__main__":
    main(sys.argv[1:])
