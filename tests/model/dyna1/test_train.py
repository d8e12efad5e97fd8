"""Training of Dyna-1: what a run writes, exact resume, the gradient of an update, embeddings, options."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dyna1_inputs import random_sequence, write_codes
from refusals import command_refused, refused
from runs import assert_same_run, without_time
from safetensors.torch import load_file

from model.dyna1 import trainer as module
from model.dyna1.classifier import PRESETS, Classifier, Dyna1Config, load_dyna1
from model.dyna1.config import Dyna1TrainConfig
from model.dyna1.config import parse_dyna1_config as parse
from model.dyna1.data import read_proteins
from model.dyna1.embeddings.cache import EmbeddingCache
from model.dyna1.embeddings.source import Embedder
from model.dyna1.evaluate import logits_of, pooled
from model.dyna1.train import __file__ as train_file
from model.dyna1.train import main
from model.dyna1.trainer import Dyna1Trainer, open_labels, train
from model.evaluation.metrics import auroc
from model.training.checkpoint import checkpoints
from model.training.processes import Process
from model.training.run_log import read_log
from seqdance.commands.dyna1.labels import main as labels_command

CPU = Process(torch.device("cpu"))
TINY = Dyna1Config(width=24, layers=2, heads=3, feed_forward=16)
NO_DROPOUT = replace(TINY, dropout=0.0)


def write_labels(path: Path, number: int, seed: int = 0, name: str = "p", missing: str = "H") -> Path:
    """Random sequences in which residues of a kind and those after them are missing; four clusters of two in many."""
    random = np.random.default_rng(seed)
    rows = []
    for k in range(number):
        sequence = f"M{random_sequence(random, random.integers(12, 50))}G"
        inner = ["." if missing in sequence[i - 1 : i + 1] else "A" for i in range(1, len(sequence) - 1)]
        cluster = f"c{k // 2}" if k < 8 and number > 5 else ""
        rows.append((f"{name}{k}", sequence, f"A{''.join(inner)}A", "refdb", cluster))
    return write_codes(path, rows)


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels") / "labels.csv", 28)


def arguments(labels: Path, output: Path, **changes: object) -> list[str]:
    """Three epochs of five updates or six, the last of them short."""
    values = {"table": labels, "output": output, "model.layers": 2, "model.heads": 3, "model.feed-forward": 16}
    values |= {"validation-fraction": 0.2, "epochs": 3, "batch": 4, "crop": 30, "learning-rate": 3e-3}
    values |= {"checkpoint-every": 2, "device": "cpu"} | changes
    return [str(word) for name, value in values.items() for word in (f"--{name}", value)]


def small(labels: Path, output: Path, **changes) -> Dyna1TrainConfig:
    return replace(parse(arguments(labels, output)), **changes)


@pytest.fixture(scope="module")
def whole(labels: Path, tmp_path_factory) -> Path:
    """Output of a training that nothing interrupts, with dropout."""
    output = tmp_path_factory.mktemp("whole")
    train(small(labels, output), CPU)
    return output


# what a run writes


def test_log_and_best_weights(labels: Path, whole: Path) -> None:
    lines = without_time(whole)
    config = small(labels, whole)
    training = Dyna1Trainer(config, CPU, *open_labels(config))
    updates = training.sampler.updates
    assert [line["n_update"] for line in lines] == [updates, 2 * updates, 3 * updates]
    assert all(0 < line["loss"] < 2 and 0 < line["validation_loss"] < 2 for line in lines)
    assert all(0 < line["Data wait"] < line["Epoch time"] for line in read_log(whole / "log.jsonl"))
    best = max(lines, key=lambda line: line["validation_auroc"])
    found = json.loads((whole / "best/validation.json").read_text())
    assert found == {"epoch": best["n_epoch"], "update": best["n_update"], "validation_auroc": lines[-1]["best_auroc"]}
    model = load_dyna1(whole / "best", "cpu")
    assert model.config.embedder == "onehot"
    scores = logits_of(model, training.validation, training.read, 1)
    target, score = pooled({p.name: p.target for p in training.validation}, scores)
    assert auroc(target, score) == pytest.approx(best["validation_auroc"], abs=1e-9)
    last = range(2, 3 * updates, 2)[-1]
    assert [path.name for path in checkpoints(whole / "checkpoints")] == [f"update_{last}", f"update_{3 * updates}"]


def test_training_learns_what_the_labels_follow(tmp_path: Path) -> None:
    """Only attention finds the residue before."""
    table = write_labels(tmp_path / "many.csv", 120, seed=4)
    train(small(table, tmp_path, model=NO_DROPOUT, epochs=6, batch=8, crop=60, learning_rate=1e-2), CPU)
    lines = without_time(tmp_path)
    assert lines[-1]["best_auroc"] > 0.85
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]


def test_patience_ends_the_training(labels: Path, tmp_path: Path, monkeypatch) -> None:
    scores = iter([0.6, 0.7, 0.7, 0.65, 0.9])
    monkeypatch.setattr(module, "auroc", lambda *_: next(scores))
    for _ in range(2):  # a rerun does nothing
        train(small(labels, tmp_path, epochs=5, patience=2), CPU)
        assert [line["validation_auroc"] for line in without_time(tmp_path)] == [0.6, 0.7, 0.7, 0.65]
    assert json.loads((tmp_path / "best/validation.json").read_text())["epoch"] == 2


def test_loss_that_is_not_finite_ends_the_training(labels: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "sum_of_losses", lambda logits, *_: logits.sum() * torch.nan)
    refused(lambda: train(small(labels, tmp_path), CPU), "--learning-rate")
    assert checkpoints(tmp_path / "checkpoints") == []


# resume


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_stop_and_resume_equals_the_uninterrupted_run(labels: Path, whole: Path, tmp_path: Path, stop: int) -> None:
    config = small(labels, tmp_path)
    train(replace(config, stop_after=stop), CPU)
    train(replace(config, stop_after=1), CPU)  # reached already
    assert checkpoints(tmp_path / "checkpoints")[-1].name == f"update_{stop}"
    torch.manual_seed(99)
    train(config, CPU)
    assert_same_run(tmp_path, whole)


def test_an_aborted_training_resumes_from_its_last_checkpoint(labels: Path, whole: Path, tmp_path, monkeypatch) -> None:
    """Aborted within update 8, and the same command again."""
    step = Dyna1Trainer.step

    def aborted_step(trainer: Dyna1Trainer) -> None:
        if trainer.update == 8:
            raise KeyboardInterrupt
        step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Dyna1Trainer, "step", aborted_step)
        with pytest.raises(SystemExit, match="130"):
            main(arguments(labels, tmp_path))
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "update_6"
    main(arguments(labels, tmp_path))
    assert_same_run(tmp_path, whole)


def test_killed_between_best_weights_and_checkpoint(labels: Path, whole: Path, tmp_path: Path) -> None:
    """The next start repeats that epoch and writes the same best weights and lines."""
    config = small(labels, tmp_path)
    train(replace(config, checkpoint_every=10**6, stop_after=4), CPU)
    kept = (tmp_path / "checkpoints").rename(tmp_path / "kept")
    train(replace(config, checkpoint_every=10**6, resume=str(kept / "update_4")), CPU)
    (tmp_path / "checkpoints").rename(tmp_path / "lost")
    kept.rename(tmp_path / "checkpoints")
    train(config, CPU)
    assert_same_run(tmp_path, whole)


def test_resume_of_another_training_is_refused(labels: Path, whole: Path, tmp_path: Path) -> None:
    before = without_time(whole)
    other = write_labels(tmp_path / "other.csv", 5, seed=3, name="v")
    for changes, named in (
        ({"resume": "none"}, "--output"),
        ({"seed": 1}, "--seed 0"),
        ({"batch": 5}, "--batch"),
        ({"crop": 31}, "--crop"),
        ({"model": replace(TINY, layers=1)}, "--model.layers"),
        ({"validation": other}, "another --table, another --validation"),
    ):
        refused(lambda c=changes: train(small(labels, whole, **c), CPU), whole, named)
    train(small(labels, whole), CPU)  # nothing is left to do
    assert without_time(whole) == before
    train(small(labels, tmp_path, validation=other, stop_after=2), CPU)
    another = write_labels(tmp_path / "another.csv", 5, seed=2, name="v")
    refused(lambda: train(small(labels, tmp_path, validation=another), CPU), tmp_path, "validation")


# proteins to train on and to validate on


def test_validation_table_or_held_out_clusters(labels: Path, tmp_path: Path, caplog) -> None:
    other = write_labels(tmp_path / "other.csv", 5, seed=2, name="v")
    negative = write_labels(tmp_path / "negative.csv", 5, name="v", missing="B")
    proteins, validation = open_labels(small(labels, tmp_path, validation=other))
    assert (len(proteins), [p.name for p in validation]) == (28, ["v0", "v1", "v2", "v3", "v4"])
    refused(lambda: open_labels(small(labels, tmp_path, validation=labels)), labels, "p0")
    refused(lambda: open_labels(small(labels, tmp_path, validation=negative)), "positives")
    proteins, validation = open_labels(small(labels, tmp_path))
    assert len(proteins) + len(validation) == 28
    assert 4 <= len(validation) <= 7
    assert not {p.cluster for p in proteins if p.cluster} & {p.cluster for p in validation if p.cluster}
    again, changed = (open_labels(small(labels, tmp_path, seed=seed))[1] for seed in (0, 1))
    assert [p.name for p in again] == [p.name for p in validation] != [p.name for p in changed]
    assert "has no clusters" not in caplog.text
    open_labels(small(other, tmp_path))
    assert f"{other} has no clusters" in caplog.text


# the arithmetic of an update


@pytest.mark.parametrize("accumulation", [1, 3])
def test_gradient_is_that_of_the_mean_over_evaluated_residues(labels: Path, tmp_path: Path, accumulation: int) -> None:
    config = small(labels, tmp_path, model=NO_DROPOUT, accumulation=accumulation)
    training = Dyna1Trainer(config, CPU, *open_labels(config))
    training.update = 3
    training.accumulate_gradients()
    losses = []
    for protein, start in training.sampler.windows(2):
        embedding = training.read(protein.name, protein.sequence)[start : start + 30]
        logits = training.model(embedding[None], torch.zeros(1, len(embedding), dtype=torch.bool))[0]
        for logit, target in zip(logits, protein.target[start : start + 30], strict=True):
            if target >= 0:  # -log p of what was seen
                p = torch.sigmoid(logit)
                losses.append(-torch.log(p if target == 1 else 1 - p))
    loss = torch.stack(losses).mean()
    named = dict(training.model.named_parameters())
    for (name, parameter), other in zip(named.items(), torch.autograd.grad(loss, list(named.values())), strict=True):
        torch.testing.assert_close(parameter.grad, other, rtol=1e-4, atol=1e-6, msg=name)
    assert training.losses.sums.tolist() == pytest.approx([loss.item() * len(losses), len(losses)], rel=1e-5)


def test_loss_of_the_golden_batch(shared) -> None:
    golden = np.load(shared / "golden/model/dyna1_classifier.npz")
    labels = torch.from_numpy(np.where(golden["eval_mask"], golden["labels"], -1))
    mean = module.sum_of_losses(torch.from_numpy(golden["logits"]), labels) / (labels != -1).sum()
    assert float(mean) == pytest.approx(float(golden["loss"]), rel=1e-5)


def test_label_smoothing() -> None:
    logits, target = torch.tensor([[2.0, -1.0, 0.5, 9.0]]), torch.tensor([[1, 0, 1, -1]], dtype=torch.int8)
    p = logits[0, :3].double().sigmoid()
    smooth = torch.tensor([0.9, 0.1, 0.9], dtype=torch.float64)  # of 0.2
    expected = -(smooth * p.log() + (1 - smooth) * (1 - p).log()).sum()
    assert float(module.sum_of_losses(logits, target, 0.2)) == pytest.approx(float(expected), rel=1e-6)


def test_training_on_mbmrb_with_published_splits_and_clusters(tmp_path: Path) -> None:
    """From the archive of pickles to weights; an epoch sees one member of each published cluster."""
    random = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "mBMRB_data.zip", "w") as archive:
        for k in range(12):
            sequence = random_sequence(random, 30)
            label = "A" + "".join(random.choice(list("AAA.v"), 28)) + "A"
            protein = {"entry_ID": f"{k}_0", "sequence": sequence, "label": label}
            archive.writestr(f"mBMRB_data/{k}_0.pkl", pickle.dumps(protein))
    (tmp_path / "clusters.tsv").write_text("cluster\tentry_ID\n" + "".join(f"{k // 4}_0\t{k}_0\n" for k in range(12)))
    for name, members in (("train_80pc", range(8)), ("val", range(8, 12))):
        (tmp_path / f"{name}.txt").write_text("".join(f"{k}_0\n" for k in members))
        words = ["mbmrb", "--file", "mBMRB_data.zip", "--split-list", f"{name}.txt", "--clusters", "clusters.tsv"]
        files = [str(tmp_path / word) if "." in word else word for word in words]
        labels_command([*files, "--output", str(tmp_path / f"{name}.csv")])
    changes = {"validation": tmp_path / "val.csv", "epochs": 1, "batch": 1, "validation-fraction": 0.5}
    main(arguments(tmp_path / "train_80pc.csv", tmp_path / "run", **changes))
    (line,) = without_time(tmp_path / "run")
    assert line["n_update"] == 2  # clusters
    assert load_dyna1(tmp_path / "run/best", "cpu").config.embedder == "onehot"


def test_label_smoothing_reaches_the_training(labels: Path, whole: Path, tmp_path: Path) -> None:
    main(arguments(labels, tmp_path, **{"label-smoothing": 0.5, "epochs": 1}))
    (smooth,), plain = without_time(tmp_path), without_time(whole)[0]
    assert abs(smooth["loss"] - plain["loss"]) > 0.02


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
def test_two_processes_train_as_one(labels: Path, tmp_path: Path) -> None:
    """Without dropout; the last update of an epoch has fewer proteins than processes in one of the forms."""
    # eps: rounding of gradients that are 0 (biases of keys) must not become a step
    changes = {"model.dropout": 0.0, "epochs": 2, "batch": 3, "accumulation": 2, "eps": 1e-3}
    main(arguments(labels, tmp_path / "one", **changes))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", train_file]
    command += arguments(labels, tmp_path / "two", **changes)
    found = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    one, two = (without_time(tmp_path / name) for name in ("one", "two"))
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=2e-3)  # one more pair of residues in order is 5e-4
    a, b = (load_file(tmp_path / name / "best/model.safetensors") for name in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4, msg=name)


# embeddings


class Letters(Embedder):
    """A language model that knows the letters only."""

    fingerprint, width, seen = "letters", 5, 0

    def embed(self, sequences, structures=None):
        self.seen += len(sequences)
        return [torch.tensor([[ord(letter) * k % 7 for k in range(5)] for letter in s]).float() for s in sequences]


def test_embeddings_of_a_language_model_are_computed_once(labels: Path, tmp_path: Path, monkeypatch) -> None:
    letters, make = Letters(), module.make_embedder
    monkeypatch.setattr(
        module, "make_embedder", lambda line, device: letters if line == "dance:x" else make(line, device)
    )
    config = small(labels, tmp_path, embedder="dance:x", model=replace(TINY, width=5, heads=1), stop_after=3)
    for stop_after in (3, 8):
        train(replace(config, stop_after=stop_after), CPU)
        assert letters.seen == 28
    cache = EmbeddingCache(tmp_path / "embeddings.h5")
    assert cache.fingerprint == load_dyna1(tmp_path / "best", "cpu").config.embedder == "letters"
    other = replace(config, output=tmp_path / "b", embedder=f"cache:{tmp_path}/embeddings.h5", stop_after=8)
    train(other, CPU)
    assert (tmp_path / "b/best/model.safetensors").read_bytes() == (tmp_path / "best/model.safetensors").read_bytes()
    more = write_labels(tmp_path / "more.csv", 29)
    refused(lambda: train(replace(other, table=more, output=tmp_path / "c"), CPU), "p28", "embeddings.h5")
    refused(lambda: train(replace(other, model=TINY, output=tmp_path / "d"), CPU), "--embedder", "width 5")


def test_pair_representations_train_their_front(labels: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for protein in read_proteins(labels):
        n = len(protein.sequence)
        np.save(tmp_path / f"{protein.name}.npy", random.normal(size=(n, n, 128)).astype(np.float16))
    model = Dyna1Config(width=256, layers=1, heads=2, feed_forward=8, pair_channels=128)
    train(small(labels, tmp_path, embedder=f"af2:{tmp_path}", model=model, accumulation=4, stop_after=2), CPU)
    torch.manual_seed(0)
    start = Classifier(model).state_dict()
    end = load_file(tmp_path / "checkpoints/update_2/model.safetensors")
    assert all(not torch.equal(end[name], start[name]) for name in ("sel_v", "layernorm.weight"))


# command line


def test_presets_hold_the_published_numbers() -> None:
    for preset in ("esm3", "esm2", "onehot", "seqdance", "af2"):
        config = parse(["--preset", preset])
        assert config.model == PRESETS[preset]
        assert (config.epochs, config.batch, config.preset) == (500, 16, preset)
        assert (config.crop, config.learning_rate) == ((400, 1e-5) if preset == "af2" else (367, 1e-6))
        assert config.batch // config.accumulation == (4 if preset == "af2" else 16)
    changed = parse(["--preset", "esm2", "--model.layers", "3", "--patience", "7"])
    assert (changed.model, changed.patience) == (replace(PRESETS["esm2"], layers=3), 7)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--model.heads", "5"], "5 heads"),
        (["--validation-fraction", "1"], "--validation-fraction 1.0"),
        (["--table", "absent.csv"], "--table absent.csv"),
        (["--table", __file__, "--validation", "absent.csv"], "--validation absent.csv"),
    ],
)
def test_wrong_options(words: list[str], named: str, capsys, tmp_path: Path) -> None:
    command_refused(main, ["--output", tmp_path, *words], capsys, named)
