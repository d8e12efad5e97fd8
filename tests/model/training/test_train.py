from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from refusals import command_refused, refused
from runs import assert_same_run, log_lines, plain
from safetensors.torch import load_file
from stores import without_properties
from torch.distributed.run import get_args_parser
from torch.nn.parallel import DistributedDataParallel

from data_prepare.dataset.loss_weights import read_loss_weights, write_loss_weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.dataset.table import read_table
from data_prepare.properties import CONFORMATIONS, GROUPS, properties_of_group
from model.config import ModelConfig, Stage, TrainConfig
from model.evaluate import EvaluateOptions, read_data
from model.evaluation.test_set import Evaluation
from model.network.dance import DanceModel
from model.network.device import choose_precision
from model.train_ddp import main
from model.training import run_log
from model.training.checkpoint import checkpoints, read_training
from model.training.command_line import parse_train_config as parse
from model.training.dance_trainer import DanceTrainer, open_data, train
from model.training.data import batches
from model.training.loss import dance_loss
from model.training.processes import Process, attempt
from model.training.run_log import (
    DATA_WAIT,
    GRADIENT_NORM,
    MODEL_FLOPS,
    PEAK_MEMORY,
    SHARE_OF_PEAK,
    TOKENS_PER_SECOND,
    RunLog,
    git_commit,
)
from model.training.schedule import draws, learning_rate
from model.training.throughput import training_flops

CPU = Process(torch.device("cpu"))
NO_DROPOUT = ModelConfig(hidden=16, layers=2, heads=2, feed_forward=32, encoder_dropout=0.0, head_dropout=0.0)


@contextmanager
def first_update(config: TrainConfig) -> Iterator[DanceTrainer]:
    """A trainer in its first update, with its stream of batches."""
    data, weights = open_data(config)
    trainer = DanceTrainer(config, CPU, data, weights, new=True)
    trainer.update = 1
    samples = draws(config, 0, 0, config.updates, tokens=data.tokens)
    with closing(batches(data, samples, 0, False)) as trainer.stream:
        yield trainer


def gradients(trainer: DanceTrainer) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def saved_updates(output: Path) -> list[int]:
    return [int(path.name.removeprefix("update_")) for path in checkpoints(output / "checkpoints")]


@pytest.fixture(scope="module")
def whole(small_data, tmp_path_factory) -> Path:
    """Output of a training of 8 updates that nothing interrupts, with dropout."""
    output = tmp_path_factory.mktemp("whole")
    config = small_data.config(output)
    assert config.model.encoder_dropout > 0
    train(config, CPU)
    return output


def test_passes_take_the_proteins_of_an_update_by_length(small_data, tmp_path: Path, monkeypatch) -> None:
    lengths: list[tuple[int, str, int]] = []  # update, group and longest protein of each pass
    loss = DanceTrainer.loss

    def noted(trainer: DanceTrainer, batch):
        lengths.extend((trainer.update, own.group, own.input_ids.shape[1]) for own in batch)
        return loss(trainer, batch)

    monkeypatch.setattr(DanceTrainer, "loss", noted)
    train(small_data.config(tmp_path, updates=6, short_updates=6, short=Stage(24, 1, 4)), CPU)
    for update in range(1, 7):
        for group in GROUPS:
            own = [length for of, name, length in lengths if (of, name) == (update, group)]
            assert len(own) == 4
            assert own == sorted(own, reverse=True)
    assert len({length for _, _, length in lengths}) > 3


# the output of a run


def test_log_has_the_published_keys_and_the_means_of_its_updates(small_data, whole: Path, tmp_path: Path) -> None:
    lines = log_lines(whole)
    assert [line["n_update"] for line in lines] == [2, 4, 6, 8]
    keys = ["rank", "n_epoch", "n_update", "n_batch_in_epoch", "Batch time", "Learning Rate", "Max_len"]
    keys += [f"{group}_{name}" for group in GROUPS for name in (*properties_of_group(group), "loss")]
    keys += [GRADIENT_NORM, TOKENS_PER_SECOND, MODEL_FLOPS, SHARE_OF_PEAK, DATA_WAIT, PEAK_MEMORY]
    assert all(list(line) == keys for line in lines)
    assert [line["Max_len"] for line in lines] == [12, 12, 24, 24]
    assert [line["Learning Rate"] for line in lines] == [learning_rate(u, 1e-2, 2, 8) for u in (2, 4, 6, 8)]
    # 2 x 2 proteins per update until update 5, then 2; the largest group has 8
    assert [(line["n_epoch"], line["n_batch_in_epoch"]) for line in lines] == [(0, 3), (1, 3), (2, 2), (3, 0)]
    config = small_data.config(tmp_path, log_every=1)
    train(config, CPU)
    single = log_lines(tmp_path)
    for line in lines:
        for key in keys[7 : keys.index(TOKENS_PER_SECOND)]:
            pair = [single[line["n_update"] - 2][key], single[line["n_update"] - 1][key]]
            assert line[key] == pytest.approx(np.mean(pair), rel=1e-5)
    weights = read_loss_weights(small_data.weights)
    for group in GROUPS:
        expected = sum(weights[group][name] * single[0][f"{group}_{name}"] for name in properties_of_group(group))
        assert single[0][f"{group}_loss"] == pytest.approx(expected, rel=1e-5)
    with closing(batches(open_data(config)[0], draws(config, 0, 0, 2), 0, False)) as stream:
        lengths = [(batch.input_ids != 1).sum(1) for batch in stream]
    for line, used in zip(single, (torch.cat(lengths[:6]), torch.cat(lengths[6:])), strict=False):
        seconds = line["Batch time"]
        assert line[TOKENS_PER_SECOND] == pytest.approx(int(used.sum()) / seconds, rel=1e-6)
        flops = sum(training_flops(config.model, n, n**2) for n in used.tolist())
        assert line[MODEL_FLOPS] == pytest.approx(flops / seconds, rel=1e-6)
        assert line[SHARE_OF_PEAK] is None  # on a CPU
        assert 0 < line[DATA_WAIT] < seconds
        assert 0.05 < line[PEAK_MEMORY] < 64  # of the whole process, PyTorch included
    first, *_, last = (sum(line[f"{group}_loss"] for group in GROUPS) for line in lines)
    assert last < 0.9 * first


def test_gradient_norms_that_are_not_finite_are_left_out(small_data, tmp_path: Path) -> None:
    with first_update(small_data.config(tmp_path)) as trainer:
        trainer.accumulate_gradients()
    for value in (torch.inf, 3.0, torch.nan, 1.0):
        trainer.losses.add_norm(torch.tensor(value))
    assert trainer.losses.means()[GRADIENT_NORM] == 2
    trainer.losses.add_norm(torch.tensor(torch.inf))
    assert trainer.losses.means()[GRADIENT_NORM] is None


def test_output_folder_holds_configuration_versions_and_tensorboard(small_data, whole: Path) -> None:
    record = json.loads((whole / "config.json").read_text())
    assert record["config"]["short"] == {"length": 12, "micro_batch": 2, "accumulation": 2}
    assert record["config"]["store"] == str(small_data.store)
    assert set(record["versions"]) == {"python", "torch", "seqdance", "numpy", "h5py", "safetensors", "cuda", "git"}
    assert (record["processes"], record["devices"], record["precision"]) == (1, ["cpu"], "fp32")
    assert record["short"] == record["config"]["short"]  # as on the command line
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(whole / "tensorboard"))
    board.Reload()
    losses = {f"loss/{group}" for group in GROUPS}
    properties = {f"{group}/{name}" for group in GROUPS for name in properties_of_group(group)}
    tags = set(board.Tags()["scalars"])
    assert losses | properties | {"training/Learning Rate", f"training/{GRADIENT_NORM}"} <= tags
    assert {tag.partition("/")[0] for tag in tags} == {"loss", "training", *GROUPS}
    events = board.Scalars("loss/IDRome")
    assert [event.step for event in events] == [2, 4, 6, 8]
    assert events[0].value == pytest.approx(log_lines(whole)[0]["IDRome_loss"])


def test_commit_of_the_source(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@e"]
    (tmp_path / "file").write_text("one")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert git_commit(tmp_path) == head
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path) == f"{head}-dirty"


# resume


@pytest.mark.parametrize(("stop", "workers"), [(3, 0), (5, 2), (7, 0)])
def test_stop_and_resume_equals_the_uninterrupted_run(small_data, whole: Path, tmp_path: Path, stop, workers) -> None:
    """Weights, optimizer, random state and log, bit by bit, from both stages and between log lines."""
    config = small_data.config(tmp_path)
    train(replace(config, stop_after=stop), CPU)
    assert saved_updates(tmp_path)[-1] == stop
    torch.manual_seed(99)
    train(replace(config, workers=workers), CPU)
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize("group", GROUPS)
def test_one_group_is_enough(small_data, tmp_path: Path, group: str) -> None:
    """Of the table and of the loss weights; the log has this group alone, and resuming is exact."""
    data = replace(small_data, table=tmp_path / "table.csv", weights=tmp_path / "weights.csv")
    table = read_table(small_data.table)
    table[table["group"] == group].to_csv(data.table, index=False)
    write_loss_weights(data.weights, {group: read_loss_weights(small_data.weights)[group]})
    train(data.config(tmp_path / "whole"), CPU)
    train(data.config(tmp_path / "parts", stop_after=5), CPU)
    train(data.config(tmp_path / "parts"), CPU)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    first, *_, last = log_lines(tmp_path / "whole")
    assert [other for other in GROUPS if f"{other}_loss" in first] == [group]
    assert last[f"{group}_loss"] < first[f"{group}_loss"]
    with FeatureStore(data.store) as store:
        files = {"table": data.table, "store": data.store, "loss_weights": data.weights}
        table, weights = read_data(EvaluateOptions(checkpoint="x", **files))
        evaluation = Evaluation(table, store, weights, CPU)
    assert list(evaluation.metrics(evaluation.measure(DanceModel(NO_DROPOUT)))) == [group]
    refused(lambda: train(data.config(tmp_path / "x", table=small_data.table), CPU), data.weights, "missing columns")


@pytest.mark.parametrize("damage", ["killed", "truncated"])
def test_resume_from_the_newest_intact_checkpoint(small_data, whole: Path, tmp_path: Path, caplog, damage) -> None:
    """Log lines after that checkpoint are not repeated."""
    config = small_data.config(tmp_path)
    train(replace(config, stop_after=7), CPU)
    last = tmp_path / "checkpoints/update_7"
    if damage == "killed":  # after update 7, while it wrote to the log
        last.rename(tmp_path / "gone")
        with (tmp_path / "log.jsonl").open("a") as file:
            file.write('{"rank": 0, "n_up')
    else:
        (last / "model.safetensors").write_bytes((last / "model.safetensors").read_bytes()[:-100])
    train(config, CPU)
    assert ("update_7: model.safetensors is damaged" in caplog.text) == (damage == "truncated")
    assert_same_run(tmp_path, whole)


def test_resume_from_a_named_checkpoint_into_another_folder(small_data, whole: Path, tmp_path: Path) -> None:
    train(small_data.config(tmp_path, resume=str(whole / "checkpoints/update_4")), CPU)
    weights, expected = (load_file(path / "checkpoints/update_8/model.safetensors") for path in (tmp_path, whole))
    assert plain(weights) == plain(expected)
    assert [line["n_update"] for line in log_lines(tmp_path)] == [6, 8]


def test_resume_of_another_training_is_refused(small_data, whole: Path, tmp_path: Path) -> None:
    config = small_data.config(whole)
    for resume in ("none", str(whole / "checkpoints/update_4")):
        refused(lambda resume=resume: train(replace(config, resume=resume), CPU), whole, "--output")
    checkpoint, store, weights, table = whole / "checkpoints/update_8", *(tmp_path / name for name in "swt")
    store.write_bytes(small_data.store.read_bytes() + b"x")
    weights.write_text(small_data.weights.read_text().replace("1.0", "1.5", 1))
    header, _, *rows = small_data.table.read_text().splitlines(keepends=True)
    table.write_text("".join([header, *rows]))
    for changes, named in (
        ({"seed": 1}, ("--seed 0", "--allow-changes seed")),
        ({"seed": 1, "model": replace(config.model, hidden=32)}, ("--model.hidden 16;", "--output")),
        ({"learning_rate": 2e-3, "clip": 1.0}, ("--allow-changes learning-rate clip",)),
        ({"long": replace(config.long, length=9)}, (f"--long.length {config.long.length}",)),
        ({"model": replace(config.model, head_dropout=0.3)}, ("--model.head-dropout",)),
        ({"model": replace(config.model, heads=4), "allow_changes": ("model.heads",)}, ("heads",)),
        ({"store": store}, ("another --store",)),
        ({"loss_weights": weights}, ("another --loss-weights",)),
        ({"table": table}, ("another --table",)),
    ):
        refused(lambda changes=changes: train(replace(config, **changes), CPU), checkpoint, *named)
    absent = tmp_path / "absent"
    refused(lambda: train(replace(config, output=tmp_path, resume=str(absent)), CPU), absent, "manifest.json")


def test_last_losses_are_those_of_the_trained_groups(small_data, tmp_path: Path) -> None:
    with first_update(small_data.config(tmp_path)) as trainer:
        trainer.data.groups = ("IDRome", CONFORMATIONS)
        line = {"IDRome_loss": 0.5, f"{CONFORMATIONS}_loss": 0.25, f"{GROUPS[0]}_loss": 1.0}
        assert trainer.losses_of(line) == f"IDRome 0.5, {CONFORMATIONS} 0.25"


def test_last_lines_say_where_and_what_next(small_data, tmp_path: Path, capsys) -> None:
    """Of a stopped and a finished training; a finished one is not touched again, and says the same."""
    config = small_data.config(tmp_path / "a run")
    train(replace(config, stop_after=3), CPU)
    stopped = capsys.readouterr().out
    assert str(config.output / "checkpoints/update_3") in stopped
    assert "--stop-after" in stopped
    train(config, CPU)
    finished = capsys.readouterr().out
    assert str(config.output / "checkpoints/update_8") in finished
    assert f"seqdance score --model '{config.output}'" in finished
    last = log_lines(config.output)[-1]
    assert all(f"{group} {last[f'{group}_loss']:.4g}" in finished for group in GROUPS)
    before = {path: path.stat().st_mtime_ns for path in config.output.rglob("*")}
    train(config, CPU)
    assert capsys.readouterr().out == finished
    assert {path: path.stat().st_mtime_ns for path in config.output.rglob("*")} == before


def test_a_folder_that_vanishes_is_an_error_without_a_traceback(small_data, tmp_path: Path, monkeypatch) -> None:
    """TensorBoard writes in a thread of its own."""
    monkeypatch.setattr(threading, "excepthook", hook := Mock())

    def record() -> None:
        with RunLog(small_data.config(tmp_path), CPU, {}, 0, 9) as log:
            shutil.rmtree(tmp_path / "tensorboard")
            for update in range(200):
                log.append({"n_update": update, "loss": 1.0}, {})
                time.sleep(0.05)

    with pytest.raises(FileNotFoundError):
        record()
    assert threading.excepthook is hook
    hook.assert_not_called()


@pytest.mark.parametrize(("seconds", "left", "warned"), [(2.0, 1_300_000, True), (2.0, 1_290_000, False)])
def test_a_training_longer_than_a_month_says_so(
    small_data, tmp_path, monkeypatch, caplog, seconds, left, warned
) -> None:
    """After three updates, by the time of the last two of them; only once."""
    times = iter([0.0, 1e6, 1e6 + seconds, 1e6 + 2 * seconds, 1e9])
    log = RunLog(small_data.config(tmp_path), CPU, {}, 0, left + 3)
    with log:
        monkeypatch.setattr(run_log.time, "perf_counter", lambda: next(times))
        next(times)
        for _ in range(5):
            log.advance()
        monkeypatch.undo()
    assert len(caplog.records) == warned
    assert not warned or "1.0 months" in caplog.text


def test_resume_takes_allowed_changes_of_the_optimizer(small_data, whole: Path, tmp_path: Path) -> None:
    allowed = ("weight-decay", "betas", "--eps")
    config = small_data.config(tmp_path, weight_decay=0.3, betas=(0.8, 0.9), eps=1e-5, allow_changes=allowed)
    with first_update(config) as trainer:
        trainer.resume(whole / "checkpoints/update_4")
    (group,) = trainer.optimizer.param_groups
    assert [group[name] for name in ("weight_decay", "betas", "eps")] == [0.3, (0.8, 0.9), 1e-5]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_float32_weights_and_resumes(small_data, tmp_path: Path, precision: str) -> None:
    config = small_data.config(tmp_path / "a", precision=precision, updates=3, short_updates=3, warmup_updates=0)
    train(config, CPU)
    state = read_training(tmp_path / "a/checkpoints/update_3")
    assert bool(state["scaler"]) == (precision == "fp16")
    weights = load_file(tmp_path / "a/checkpoints/update_3/model.safetensors")
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values())
    for stop in (2, None):
        train(replace(config, output=tmp_path / "b", stop_after=stop), CPU)
    assert_same_run(tmp_path / "b", tmp_path / "a")


@pytest.mark.parametrize(
    ("device", "native", "precision"), [("cpu", 0, "fp32"), ("cuda", 1, "bf16"), ("cuda", 0, "fp16")]
)
def test_precision_suits_the_device(monkeypatch, device: str, native: int, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert choose_precision("auto", torch.device(device)) == precision
    assert choose_precision("fp16", torch.device(device)) == "fp16"


@pytest.mark.parametrize("source", ["encoder alone", "another model", "checkpoint"])
def test_frozen_encoder_keeps_the_weights_it_starts_from(small_data, whole: Path, tmp_path: Path, source: str) -> None:
    """ESMDance: only the heads change."""
    checkpoint = whole / "checkpoints/update_8"
    start = load_file(checkpoint / "model.safetensors")
    path = checkpoint if source == "checkpoint" else tmp_path / "weights.pt"
    if source == "encoder alone":
        torch.save({name.removeprefix("esm2."): value for name, value in start.items() if "esm2." in name}, path)
    elif source == "another model":  # with an unused entry of published files
        torch.save({**start, "esm2.pooler.dense.bias": torch.zeros(16)}, path)
    model = ModelConfig(hidden=16, layers=2, heads=2, feed_forward=32, freeze_encoder=True)
    config = small_data.config(tmp_path / "run", model=model, encoder=str(path), stop_after=2)
    train(config, CPU)
    end = load_file(tmp_path / "run/checkpoints/update_2/model.safetensors")
    changed = {name for name in end if not torch.equal(end[name], start[name])}
    assert changed == {name for name in end if not name.startswith("esm2.")}
    other = replace(config, output=tmp_path / "other", model=replace(model, heads=4), encoder=str(checkpoint))
    refused(lambda: train(other, CPU), checkpoint, "2 attention heads")


# options of the training step


def test_last_update_is_logged(small_data, tmp_path: Path) -> None:
    config = small_data.config(tmp_path, log_every=1_000, model=replace(NO_DROPOUT, layers=1))
    train(config, CPU)
    assert [line["n_update"] for line in log_lines(tmp_path)] == [config.updates]


def test_groups_in_one_pass(small_data, tmp_path: Path) -> None:
    """The same losses and gradients as group after group, from a third of the passes, padded or not."""
    config = small_data.config(tmp_path, model=NO_DROPOUT, short=Stage(12, 2, 2))
    results = []
    for joint, multiple in ((False, 1), (True, 1), (True, 8)):
        with first_update(replace(config, joint_groups=joint)) as trainer:
            trainer.multiple = multiple  # of the padded length
            assert len(trainer.micro_batches()) == (2 if joint else 2 * len(GROUPS))
            trainer.accumulate_gradients()
        results.append((trainer.losses.means(), gradients(trainer)))
    for means, found in results[1:]:
        assert means == pytest.approx(results[0][0], rel=1e-5)
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, results[0][1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_every_division_of_an_update_is_the_same(own_small_data, tmp_path: Path) -> None:
    """The same samples, losses and gradients, though few proteins have a property or a valid position."""
    lacking = {f"IDRome_train_{k}": ["vdw", "chi"] for k in range(4)} | {"mdCATH_train_0": ["corr"]}
    data = replace(own_small_data, store=without_properties(own_small_data.store, tmp_path / "s.h5", **lacking))
    fill_entries(own_small_data, {"IDRome_train_0", "ATLAS_train_1", "proteinflow_pdb_train_2"}, -1)
    for own in (data, own_small_data):
        results = []
        for micro_batch, accumulation, joint in ((4, 2, False), (1, 8, False), (8, 1, True)):
            stage = Stage(12, micro_batch, accumulation)
            with first_update(own.config(tmp_path, model=NO_DROPOUT, short=stage, joint_groups=joint)) as trainer:
                trainer.accumulate_gradients()
                assert trainer.seen == 8
                names = [name for loss, group, names in trainer.losses._unchecked for name in (group, *names)]
            results.append((trainer.losses.means(), gradients(trainer), sorted(set(names))))
        for means, found, names in results[1:]:
            assert means == pytest.approx(results[0][0], rel=1e-5)
            assert names == results[0][2]
            for name, gradient in found.items():
                torch.testing.assert_close(gradient, results[0][1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_an_update_that_is_not_finite_changes_nothing(small_data, tmp_path: Path) -> None:
    with first_update(small_data.config(tmp_path, model=NO_DROPOUT)) as trainer:
        trainer.accumulate_gradients()
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        next(trainer.model.parameters()).grad[3, 1] = torch.nan
        trainer.step()
        assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
        trainer.accumulate_gradients()
        trainer.step()
        assert not any(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


def test_infinite_losses_of_fp16_are_skipped(small_data, tmp_path: Path) -> None:
    with first_update(small_data.config(tmp_path, precision="fp16")) as trainer:
        batch = next(trainer.stream)
    names = properties_of_group(batch.group)
    for loss in (2.0, torch.inf):
        values = dict.fromkeys((*names, "loss"), torch.tensor(loss))
        trainer.losses.add(batch, values, torch.ones(len(names)), 1)
    trainer.losses.check()
    assert trainer.losses.means()[f"{batch.group}_loss"] == 2
    trainer.losses.add(batch, dict.fromkeys((*names, "loss"), torch.tensor(torch.nan)), torch.ones(len(names)), 1)
    refused(trainer.losses.check, *batch.names)


# signals


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGUSR1, 0), (signal.SIGUSR1, 1)]
)
def test_signal_saves_after_the_current_update(
    small_data, whole, tmp_path, monkeypatch, capfd, number, workers
) -> None:
    """The signal also reaches the processes that read the store, like that of a batch system."""
    config = small_data.config(tmp_path, workers=workers)
    loss, passes = DanceTrainer.loss, []

    def signalling_loss(trainer, batch) -> torch.Tensor:
        passes.append(batch[0].group)
        if len(passes) == 15:  # 6 in an update: in the third one, with gradients of two groups
            readers = [child.pid for child in multiprocessing.active_children()]
            assert len(readers) == workers
            for process in (*readers, os.getpid()):
                os.kill(process, number)
            time.sleep(0.2)
        return loss(trainer, batch)

    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(DanceTrainer, "loss", signalling_loss)
        train(config, CPU)
    assert len(passes) == 18
    assert signal.getsignal(number) is handler
    assert saved_updates(tmp_path) == [3]
    shown = capfd.readouterr()
    assert f"stopped after update 3: saved in {tmp_path / 'checkpoints/update_3'}" in shown.out
    assert ("Ctrl-C again" in shown.err) == (number == signal.SIGINT)
    train(config, CPU)
    assert_same_run(tmp_path, whole)


# the arithmetic of an update


def test_gradient_is_the_mean_over_micro_steps_of_the_sum_over_groups(small_data, tmp_path: Path) -> None:
    config = small_data.config(tmp_path, model=NO_DROPOUT, short=Stage(12, 2, 3))
    with first_update(config) as trainer:
        trainer.accumulate_gradients()
    total = torch.zeros(())
    with first_update(config) as plain:
        for _ in range(3 * len(GROUPS)):
            batch = next(plain.stream)
            outputs = plain.model(batch.input_ids, batch.attention_mask)
            losses = dance_loss(outputs, batch.residue, batch.pair, batch.group, plain.weights[batch.group])
            total = total + losses["loss"] / 3
    expected = torch.autograd.grad(total, list(plain.model.parameters()))
    for (name, found), gradient in zip(gradients(trainer).items(), expected, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("scale", [None, 1024.0])
def test_step_clips_by_value_at_the_rate_of_the_schedule(small_data, tmp_path: Path, scale: float | None) -> None:
    """With scaled gradients (fp16), too: they are unscaled before their norm is taken and they are clipped."""
    with first_update(small_data.config(tmp_path, clip=0.01, model=NO_DROPOUT)) as plain:
        plain.accumulate_gradients()
    expected = gradients(plain)
    assert max(gradient.abs().max() for gradient in expected.values()) > 0.01
    with first_update(plain.config) as trainer:
        if scale is not None:
            trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.accumulate_gradients()
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.step()
    norm = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    assert trainer.losses.means()[GRADIENT_NORM] == pytest.approx(float(norm), rel=1e-4)
    rate = learning_rate(1, 1e-2, 2, 8)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].clamp(-0.01, 0.01), rtol=1e-4, atol=1e-8, msg=name)
        # first step of AdamW: lr * (g / (|g| + eps) + decay * value)
        moved = rate * (parameter.grad / (parameter.grad.abs() + 1e-8) + 0.01 * before[name])
        torch.testing.assert_close(before[name] - parameter.detach(), moved, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("freeze", [False, True])
def test_every_group_alone_reaches_all_parameters(small_data, tmp_path: Path, freeze: bool) -> None:
    """DistributedDataParallel need not search for unused parameters."""
    with first_update(small_data.config(tmp_path, model=replace(NO_DROPOUT, freeze_encoder=freeze))) as trainer:
        for load in trainer.micro_batches():
            trainer.model.zero_grad()
            trainer.loss(load()).backward()
            assert all(p.grad is not None for p in trainer.model.parameters() if p.requires_grad)


def test_loss_is_divided_by_the_proteins_of_all_processes(small_data, tmp_path: Path, monkeypatch) -> None:
    """If each of two processes has the same batch, the loss is that of one."""

    monkeypatch.setattr(dist, "all_reduce", lambda counts: counts.mul_(2))
    losses = []
    for processes in (1, 2):
        with first_update(small_data.config(tmp_path, model=NO_DROPOUT)) as trainer:
            trainer.process = replace(CPU, processes=processes)
            losses.append(trainer.loss(trainer.micro_batches()[0]()))
    assert torch.equal(*losses)


def test_gradients_are_exchanged_once_per_update(small_data, tmp_path: Path) -> None:
    exchanged = []

    def count(_, bucket):
        exchanged.append(bucket.index())
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with first_update(small_data.config(tmp_path, short=Stage(12, 2, 2))) as trainer:
            trainer.network = DistributedDataParallel(trainer.model)
            trainer.network.register_comm_hook(None, count)
            trainer.accumulate_gradients()
    finally:
        dist.destroy_process_group()
    assert exchanged == [0]  # one bucket holds all of this network


def fill_entries(data, names: set[str], value: float) -> None:
    """Replace the valid features of some entries by a value; -1 leaves no valid position."""
    with FeatureStore(data.store) as store:
        entries = {name: store.read(name) for name in store.names()}
    with StoreWriter(data.store) as writer:
        for name, arrays in entries.items():
            writer.add(name, *(np.where(a == -1, a, value) if name in names else a for a in arrays))


def test_group_without_a_valid_position_adds_nothing(own_small_data, tmp_path: Path) -> None:
    fill_entries(own_small_data, {f"IDRome_train_{k}" for k in range(5)}, -1)
    train(own_small_data.config(tmp_path / "run"), CPU)
    for line in log_lines(tmp_path / "run"):
        assert line["IDRome_loss"] == 0
        assert line["Proteinflow_loss"] > 0


def test_loss_that_is_not_finite_stops_and_names_the_entries(own_small_data, tmp_path: Path, capsys) -> None:
    fill_entries(own_small_data, {"mdCATH_train_1"}, 1e30)
    words = own_small_data.arguments(tmp_path / "run", **{"log-every": 4})
    error = command_refused(main, words, capsys, "ATLAS_GPCRmd_PED_mdCATH is not finite")
    assert "mdCATH_train_1" in re.search("entries are (.*?):", error).group(1)
    assert saved_updates(tmp_path / "run") == []


# several processes

WORKER = """
import os, signal, sys
sys.modules.update(dict.fromkeys({absent}))  # training nodes may lack structure libraries
from contextlib import closing
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {folder!r})
import torch
from conftest import SmallData
from model.config import Stage
from model.training.data import batches
from model.training.processes import start_process
from model.training.schedule import draws
from model.training.dance_trainer import DanceTrainer, open_data, train

data, out = SmallData(*map(Path, {files!r})), Path({out!r})
process = start_process("cpu")
torch.distributed.barrier()
first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
loss, passes = DanceTrainer.loss, []

def gradients(freeze):
    config = data.config(out, short=Stage(12, 2, 2))
    dropout = dict(encoder_dropout=0.0, head_dropout=0.0)
    config = replace(config, model=replace(config.model, freeze_encoder=freeze, **dropout))
    trainer = DanceTrainer(config, process, *open_data(config), new=True)
    trainer.update = 1
    samples = draws(config, 0, 0, 1, process.rank, 2, tokens=trainer.data.tokens)
    with closing(batches(trainer.data, samples, 0, False)) as trainer.stream:
        trainer.accumulate_gradients()
    means = trainer.losses.means()
    if process.rank == 0:
        gradients = {{n: p.grad for n, p in trainer.model.named_parameters() if p.requires_grad}}
        torch.save([gradients, means], out / f"gradients_{{int(freeze)}}.pt")

def signalled_loss(number, at):
    def loss_or_signal(trainer, batch):
        passes.append(batch[0].group)
        if len(passes) == at and process.rank == 1:  # only one of them hears it
            os.kill(os.getpid(), number)
        return loss(trainer, batch)
    return loss_or_signal

if first:
    for freeze in (False, True):
        gradients(freeze)
    train(data.config(out / "whole"), process)
    DanceTrainer.loss = signalled_loss(signal.SIGTERM, 16)  # in the middle of the third update
    train(data.config(out / "parts"), process)
    assert len(passes) == 18, passes
    train(data.config(out / "parts"), process)
    passes.clear()
    # no chance to save: killed in update 7, with lines of update 6 in the log and the checkpoint of update 4
    DanceTrainer.loss = signalled_loss(signal.SIGKILL, 5 * 6 + 3 + 2)
train(data.config(out / "killed"), process)
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two_processes(small_data, tmp_path_factory):
    """Data and output of `WORKER`. The processes have different numbers of proteins with a valid position."""
    out = tmp_path_factory.mktemp("two")
    data = replace(small_data, store=Path(shutil.copy(small_data.store, out)))
    fill_entries(data, {"IDRome_train_0", "IDRome_train_3", "ATLAS_train_1", "proteinflow_pdb_train_2"}, -1)
    files, folder = list(map(str, vars(data).values())), str(Path(__file__).parents[1])
    absent = ("mdtraj", "prody", "gemmi", "numba", "distributed", "dask", "transformers", "sklearn")
    (out / "worker.py").write_text(WORKER.format(absent=absent, folder=folder, files=files, out=str(out)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([*command, out / "worker.py"], cwd=out, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Signal 9 (SIGKILL)" in result.stderr or "exitcode: -9" in result.stderr
    return data, out


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
@pytest.mark.parametrize("freeze", [False, True])
def test_gradients_of_two_processes_are_those_of_one(two_processes, tmp_path: Path, freeze: bool) -> None:
    data, out = two_processes
    model = replace(NO_DROPOUT, freeze_encoder=freeze)
    with first_update(data.config(tmp_path, model=model, short=Stage(12, 4, 2))) as trainer:
        trainer.accumulate_gradients()
    found, means = torch.load(out / f"gradients_{int(freeze)}.pt", weights_only=True)
    expected = gradients(trainer)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-5 * max(1.0, gradient.abs().max()), name
    expected_means = trainer.losses.means()
    assert means.pop(GRADIENT_NORM) is expected_means.pop(GRADIENT_NORM) is None  # no step was made
    assert means == pytest.approx(expected_means, rel=1e-5)


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
def test_stopped_and_killed_runs_of_two_processes_resume_exactly(two_processes, tmp_path: Path) -> None:
    data, out = two_processes
    for name in ("parts", "killed"):
        assert_same_run(out / name, out / "whole")
    assert [(line["n_update"], line["rank"]) for line in log_lines(out / "killed")] == [(n, 0) for n in (2, 4, 6, 8)]
    assert json.loads((out / "whole/config.json").read_text())["processes"] == 2
    # one process continues the samples of two, 2 x 2 x 2 in an update
    config = data.config(tmp_path, resume=str(out / "whole/checkpoints/update_4"), stop_after=5)
    refused(lambda: train(config, CPU), "8 proteins", "--short.accumulation 4 with --short.micro-batch 2")
    train(replace(config, short=replace(config.short, accumulation=4), long=replace(config.long, accumulation=2)), CPU)
    assert read_training(tmp_path / "checkpoints/update_5")["seen"] == 5 * 8


def test_prefix_of_a_start(monkeypatch) -> None:
    """Different after a restart on a single node only: on several nodes the counts of restarts differ."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    prefixes = {}
    for processes, count in ((2, 0), (2, 1), (2, 2), (4, 0), (4, 1)):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(count))
        prefixes[processes, count] = attempt()
    assert len({prefixes[2, count] for count in range(3)}) == 3
    assert prefixes[4, 0] == prefixes[4, 1]


# the command line


def test_no_option_is_an_abbreviation_of_one_of_torchrun(capsys) -> None:
    """torchrun parses abbreviations of its own options anywhere on the command line."""
    with pytest.raises(SystemExit):
        parse(["--help"])
    ours = set(re.findall(r"--[a-z][a-z.-]+", capsys.readouterr().out))
    assert {"--output", "--resume", "--model.hidden", "--short.micro-batch"} <= ours
    theirs = {option for action in get_args_parser()._actions for option in action.option_strings}
    assert [(a, b) for a in ours - {"--help"} for b in theirs if b.startswith(a)] == []


def test_data_that_cannot_be_used_are_one_line(small_data, tmp_path: Path) -> None:
    config, path = small_data.config(tmp_path), tmp_path / "table.csv"
    table = read_table(small_data.table)
    table.assign(label="test").to_csv(path, index=False)
    refused(lambda: train(replace(config, table=path), CPU), config.store, "no training entry")
    refused(lambda: train(replace(config, store=path), CPU), path)


@pytest.mark.parametrize(("name", "value"), [("RANK", "x"), ("WORLD_SIZE", ""), ("MASTER_PORT", "9x")])
def test_wrong_variables_of_torchrun_are_one_line(small_data, tmp_path, monkeypatch, capsys, name, value) -> None:
    for number in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.setenv(number, value if number == name else "0")
    command_refused(main, small_data.arguments(tmp_path), capsys, name, repr(value))


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_a_rank_ends_with_its_launcher() -> None:
    rank = "import model.training.processes as p, time; p._end_with_parent(); print(1, flush=True); time.sleep(60)"
    launcher = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {rank!r}]).pid, flush=True)"
    with subprocess.Popen([sys.executable, "-c", f"{launcher}; input()"], stdin=-1, stdout=-1, text=True) as process:
        process.stdout.readline()
        process.stdout.readline()
        process.kill()
        start = time.monotonic()
        process.stdout.read()  # returns when the rank has ended, too
        assert time.monotonic() - start < 30
