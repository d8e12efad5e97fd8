from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from refusals import command_refused, refused
from scipy.stats import pearsonr, spearmanr
from stores import without_properties
from torch.distributed.run import get_args_parser

from data_prepare.dataset.loss_weights import read_loss_weights
from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.dataset.table import read_table
from data_prepare.errors import InputError
from data_prepare.properties import GROUPS, PAIR_CHANNELS, RESIDUE_COLUMNS, properties_of_group
from data_prepare.structure.readers import read_structure
from data_prepare.structure.sequence import ONE_LETTER
from model import evaluate
from model.config import ModelConfig
from model.evaluate import main
from model.evaluation.baselines import MeanBaselines
from model.evaluation.elastic_networks import network_profiles
from model.evaluation.report import load_checkpoint, metrics_text
from model.evaluation.test_set import Evaluation
from model.network.dance import DanceModel
from model.training.checkpoint import save_checkpoint
from model.training.data import Entry, group_sequences, load_entry
from model.training.processes import Process

MD, IDR, NMA = GROUPS
PREDICTORS = ("model", "mean", "sequence")
THREE_LETTERS = {letter: name for name, letter in reversed(ONE_LETTER.items())}


@pytest.fixture(scope="module")
def model() -> DanceModel:
    torch.manual_seed(3)
    return DanceModel(ModelConfig(hidden=16, layers=2, heads=2, feed_forward=32))


def run(data, model: DanceModel, rows=lambda table: slice(None), **options) -> dict:
    """Metrics on all rows of the table, or on some."""
    table, weights = read_table(data.table), read_loss_weights(data.weights)
    with FeatureStore(data.store) as store:
        process = Process(torch.device("cpu"))
        evaluation = Evaluation(table[rows(table)], store, weights, process, **options)
        return evaluation.metrics(evaluation.measure(model))


def test_a_diverged_network_is_refused(small_data) -> None:
    broken = DanceModel(ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16))
    with torch.no_grad():
        broken.res_pred_nn[0].weight.fill_(torch.nan)
    refused(lambda: run(small_data, broken), "not finite", "diverged")


def entries(data, group: str, label: str, length: int | None = None) -> Iterator[Entry]:
    with FeatureStore(data.store) as store:
        for name, sequence in group_sequences(read_table(data.table), store, label)[group]:
            yield load_entry(store, name, sequence, group, 0, length)


def columns_of(name: str, group: str) -> slice | int:
    """Columns of a property in the arrays of an entry, counted by hand."""
    if name in PAIR_CHANNELS:
        return PAIR_CHANNELS[name] - (10 if group == NMA else 0)
    first, width = RESIDUE_COLUMNS[name]
    first -= 47 if group == NMA else 0
    return slice(first, first + width)


def plain_baselines(data, group: str) -> tuple[np.ndarray, dict, np.ndarray, dict]:
    """Means by loops over single positions."""
    residues, pairs = defaultdict(list), defaultdict(list)
    for entry in entries(data, group, "train"):
        ids = entry.input_ids.tolist()
        chain, chains = -1, []
        for token in ids:
            chain += token == 0
            chains.append(chain)
        for i, token in enumerate(ids):
            if entry.residue[i, 0] != -1:
                residues[token].append(entry.residue[i].numpy())
            for j in range(len(ids)):
                if entry.pair[i, j, 0] != -1:
                    pairs[abs(i - j) if chains[i] == chains[j] else "between"].append(entry.pair[i, j].numpy())
    means = []
    for found in (residues, pairs):
        means.append(np.mean([row for rows in found.values() for row in rows], axis=0, dtype=np.float64))
        means.append({key: np.mean(rows, axis=0, dtype=np.float64) for key, rows in found.items()})
    return tuple(means)


def plain_loss(predictions: list[dict], targets: list[Entry], group: str) -> dict[str, float]:
    """Mean over proteins of sqrt(MSE), one protein at a time."""
    losses = {}
    for name in properties_of_group(group):
        errors = []
        for prediction, entry in zip(predictions, targets, strict=True):
            features = (entry.pair if name in PAIR_CHANNELS else entry.residue).numpy().astype(np.float64)
            target, valid = features[..., columns_of(name, group)], features[..., 0] != -1
            errors.append(np.sqrt(np.mean((prediction[name].reshape(target.shape) - target)[valid] ** 2)))
        losses[name] = np.mean(errors)
    return losses


def predict(model: DanceModel, entry: Entry) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: values[0].numpy() for name, values in model.eval()(entry.input_ids[None]).items()}


@pytest.mark.parametrize("length", [1024, 9])
def test_losses_equal_plain_loops(small_data, model: DanceModel, length: int) -> None:
    """Of the network and of both baselines; cut proteins are compared from their first token on."""
    metrics = run(small_data, model.train(), length=length)  # dropout is off all the same
    weights = read_loss_weights(small_data.weights)
    assert list(metrics) == list(GROUPS)
    for group in GROUPS:
        targets = list(entries(small_data, group, "test", length))
        assert metrics[group]["entries"] == len(targets)
        residue_mean, by_letter, pair_mean, by_distance = plain_baselines(small_data, group)
        distances = np.array(sorted(key for key in by_distance if key != "between"))
        predictions: dict[str, list[dict]] = {name: [] for name in PREDICTORS}
        for entry in targets:
            n = len(entry.input_ids)
            predictions["model"].append(predict(model, entry))
            chain = (entry.input_ids == 0).cumsum(0).tolist()
            letter = np.stack([by_letter.get(token, residue_mean) for token in entry.input_ids.tolist()])
            pair = np.empty((n, n, len(pair_mean)))
            for i in range(n):
                for j in range(n):
                    nearest = distances[np.abs(distances - abs(i - j)).argmin()]
                    pair[i, j] = by_distance[nearest] if chain[i] == chain[j] else by_distance["between"]
            for predictor, r, p in (
                ("mean", np.broadcast_to(residue_mean, letter.shape), np.broadcast_to(pair_mean, pair.shape)),
                ("sequence", letter, pair),
            ):
                predictions[predictor].append(
                    {
                        name: (p if name in PAIR_CHANNELS else r)[..., columns_of(name, group)]
                        for name in properties_of_group(group)
                    }
                )
        for predictor in PREDICTORS:
            expected = plain_loss(predictions[predictor], targets, group)
            assert metrics[group][predictor]["properties"] == pytest.approx(expected, rel=1e-5), (group, predictor)
            total = sum(weights[group][name] * value for name, value in expected.items())
            assert metrics[group][predictor]["loss"] == pytest.approx(total, rel=1e-5)


def test_precision(small_data, model: DanceModel) -> None:
    """bf16 changes the losses of the network a little and those of the baselines not at all."""
    exact, rounded = run(small_data, model), run(small_data, model, precision="bf16")
    for group in GROUPS:
        assert exact[group]["model"]["loss"] != rounded[group]["model"]["loss"]
        assert exact[group]["model"]["loss"] == pytest.approx(rounded[group]["model"]["loss"], rel=1e-2)
        assert exact[group]["sequence"] == rounded[group]["sequence"]


@pytest.mark.parametrize(("length", "size", "expected"), [(1024, 16, 4), (1024, 3, 3), (8, 16, 1)])
def test_batches_have_no_more_pairs_than_one_long_protein(small_data, model, length, size, expected) -> None:
    shapes: list[tuple[int, int]] = []
    hook = model.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    run(small_data, model, lambda table: table["group"] == MD, length=length, batch_size=size)
    hook.remove()
    assert sum(proteins for proteins, _ in shapes) == 4
    assert shapes[0][0] == expected
    assert shapes == sorted(shapes, key=lambda shape: shape[1])


def test_protein_without_a_valid_position_does_not_count(own_small_data, model: DanceModel) -> None:
    """Losses are those of the other proteins; a group that has no others has none."""
    data = own_small_data
    with FeatureStore(data.store) as store:
        arrays = {name: store.read(name) for name in store.names()}
    with StoreWriter(data.store) as writer:
        for name, features in arrays.items():
            invalid = name in ("PED_test_0", "IDRome_test_0")
            writer.add(name, *(np.full_like(array, -1) if invalid else array for array in features))
    metrics = run(data, model)
    others = run(data, model, lambda table: table["name"] != "PED_test_0", batch_size=1)
    assert metrics[MD]["entries"] == 4
    for predictor in PREDICTORS:
        assert metrics[MD][predictor]["properties"] == pytest.approx(others[MD][predictor]["properties"], rel=1e-5)
        assert set(metrics[IDR][predictor]["properties"].values()) == {None}
        assert metrics[IDR][predictor]["loss"] == 0
    assert metrics[MD]["model"]["correlations"]["corr"]["proteins"] == 3
    assert metrics_text(metrics).count(" - ") > 0


def test_groups_need_test_and_training_entries(small_data, model: DanceModel) -> None:
    for label, named in (("train", "test"), ("test", "ATLAS")):
        refused(lambda label=label: run(small_data, model, lambda table: table["label"] == label), named)
    assert list(run(small_data, model, lambda table: table["group"] != IDR)) == [MD, NMA]


# elastic networks


def c_alpha_pdb(sequence: str, missing: int | None = None) -> str:
    """C-alpha atoms of a chain on a noisy helix; the residue with number `missing` is left out."""
    numbers = np.arange(1, len(sequence) + 1)
    xyz = np.stack([2.3 * np.cos(1.75 * numbers), 2.3 * np.sin(1.75 * numbers), 3.4 * numbers], axis=1)
    xyz += np.random.default_rng(len(sequence)).normal(0, 0.3, xyz.shape)
    line = "ATOM  {0:5d}  CA  {1} A{0:4d}    {2:8.3f}{3:8.3f}{4:8.3f}  1.00  0.00\n"
    residues = zip(numbers, map(THREE_LETTERS.get, sequence), xyz, strict=True)
    return "".join(line.format(number, name, *position) for number, name, position in residues if number != missing)


@pytest.fixture(scope="module")
def structures(small_data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Structures of three test entries, one with a gap, two that do not fit, and one of normal modes."""
    folder = tmp_path_factory.mktemp("structures")
    table = read_table(small_data.table).set_index("name")["modify_seq"]
    for name in ("ATLAS_test_0", "mdCATH_test_0", "IDRome_test_0", "proteinflow_pdb_test_0"):
        (folder / f"{name}.pdb").write_text(c_alpha_pdb(table[name], 2 if name == "mdCATH_test_0" else None))
    (folder / "PED_test_0.pdb").write_text(c_alpha_pdb("W" + table["PED_test_0"]))
    (folder / "GPCRmd_test_0.pdb").write_text("no atoms")
    return folder


@pytest.mark.parametrize("length", [1024, 9])
def test_correlations_are_medians_over_proteins(small_data, model: DanceModel, structures: Path, length: int) -> None:
    """By loops over proteins and positions: over all valid ones, and over those that the structure has."""
    metrics = run(small_data, model, structures=structures, length=length)
    assert "structures" not in metrics[NMA]
    assert "correlations" not in metrics[NMA]["model"]
    plain = run(small_data, model, length=length)
    for group, with_structure in ((MD, ("ATLAS_test_0", "mdCATH_test_0")), (IDR, ("IDRome_test_0",))):
        beside = metrics[group].pop("structures")
        assert metrics[group] == plain[group]
        assert beside["entries"] == len(with_structure)
        assert sorted(beside["without"]) == (["GPCRmd_test_0", "PED_test_0"] if group == MD else [])
        expected: dict[tuple, list] = defaultdict(list)

        def compare(where: str, predictor: str, name: str, predicted, target, expected=expected) -> None:
            expected[where, predictor, name].append((pearsonr(predicted, target)[0], spearmanr(predicted, target)[0]))

        for entry in entries(small_data, group, "test", length):
            outputs, n = predict(model, entry), len(entry.input_ids)
            residue, pair = entry.residue.numpy(), entry.pair.numpy()
            valid = [i for i in range(n) if residue[i, 0] != -1]
            pairs = [(i, j) for i in range(n) for j in range(n) if i != j and pair[i, j, 0] != -1]
            for name, column in (("rmsf_nor", 2), ("sasa_mean", 0)):
                compare("everywhere", "model", name, outputs[name][valid], residue[valid, column])
            compare("everywhere", "model", "corr", [outputs["corr"][p] for p in pairs], [pair[p][9] for p in pairs])
            if entry.name in with_structure:
                positions = read_structure(structures / f"{entry.name}.pdb")[1]
                there = [k for k in range(1, len(positions) + 2) if (entry.name, k) != ("mdCATH_test_0", 2)]
                row = {token: number for number, token in enumerate(there)}  # token -> row of the structure
                valid = [i for i in valid if i in row]
                pairs = [(i, j) for i, j in pairs if i in row and j in row]
                found = {"model": (outputs["rmsf_nor"][valid], [outputs["corr"][p] for p in pairs])}
                for network, (fluctuation, comovement) in network_profiles(positions).items():
                    of_pairs = [comovement[row[i], row[j]] for i, j in pairs]
                    found[network] = fluctuation[[row[i] for i in valid]], of_pairs
                for predictor, (fluctuations, comovements) in found.items():
                    compare("resolved", predictor, "rmsf_nor", fluctuations, residue[valid, 2])
                    compare("resolved", predictor, "corr", comovements, [pair[p][9] for p in pairs])
        assert len(expected) == 9
        for (where, predictor, name), values in expected.items():
            everywhere = metrics[group]["model"]["correlations"]
            found = everywhere if where == "everywhere" else beside["correlations"][predictor]
            pearson, spearman = np.median(values, axis=0)
            medians = {"pearson": pearson, "spearman": spearman, "proteins": len(values)}
            assert found[name] == pytest.approx(medians, rel=1e-4, abs=1e-5), (where, predictor, name)
        constant = {"pearson": None, "spearman": None, "proteins": 0}
        assert metrics[group]["mean"]["correlations"]["corr"] == constant
        if group == MD:
            assert "PED_test_0.pdb: the residues of chain A" in beside["without"]["PED_test_0"]


# the command


def words(data, *more: object) -> list[str]:
    files = ["--table", data.table, "--store", data.store, "--loss-weights", data.weights, "--device", "cpu"]
    return [str(word) for word in (*files, *more)]


def test_command(small_data, model: DanceModel, structures: Path, tmp_path: Path, capsys) -> None:
    """Means and medians of the CSV are the metrics; entries stand in the order of the table."""
    model.save_pretrained(tmp_path / "model")
    out, rows = tmp_path / "new/metrics.json", tmp_path / "rows.csv"
    options = words(small_data, "--output", out, "--per-protein", rows, "--structures", structures)
    options[options.index("--loss-weights")] = "--weights"  # its old name
    main(["--checkpoint", str(tmp_path / "model"), *options])
    groups, frame = json.loads(out.read_text())["groups"], pd.read_csv(rows)
    table = read_table(small_data.table)
    assert groups == run(small_data, model, structures=structures)
    assert [path.name for path in out.parent.iterdir()] == ["metrics.json"]
    for group in GROUPS:
        part = frame[frame["group"] == group]
        own = (table["group"] == group) & (table["label"] == "test")
        assert list(dict.fromkeys(part["entry"])) == list(table.loc[own, "name"])
        assert list(part["property"]) == list(properties_of_group(group)) * groups[group]["entries"]
        for predictor in PREDICTORS:
            found = part.groupby("property")[f"loss_{predictor}"].mean().to_dict()
            assert found == pytest.approx(groups[group][predictor]["properties"], rel=1e-12)
        if group != NMA:
            medians = part.groupby("property")["spearman_model"].median().dropna().to_dict()
            expected = groups[group]["model"]["correlations"]
            assert medians == pytest.approx({name: expected[name]["spearman"] for name in expected}, rel=1e-12)
            of_networks = groups[group]["structures"]["correlations"]
            for predictor in ("model", "sequence", "gnm", "anm"):
                medians = part.groupby("property")[f"pearson_resolved_{predictor}"].median().dropna().to_dict()
                expected = {name: values["pearson"] for name, values in of_networks[predictor].items()}
                assert medians == pytest.approx(expected, rel=1e-12)
    assert not [name for name in frame if frame[name].isna().all()]
    printed = capsys.readouterr().out
    assert "20 slowest modes of elastic networks" in printed
    last = groups[IDR]["structures"]["correlations"]["anm"]["corr"]["spearman"]
    for value in (groups[NMA]["sequence"]["properties"]["nma_pair3"], groups[MD]["model"]["loss"], last):
        assert f"{value:.4f}" in printed

    (tmp_path / "model/model.safetensors").write_bytes(b"no weights")
    for checkpoint in (tmp_path / "model", tmp_path / "absent"):
        command_refused(main, ["--checkpoint", checkpoint, *options], capsys, checkpoint)
    with pytest.raises(InputError):
        main(["--checkpoint", str(tmp_path / "absent"), *options, "--debug"])


def test_published_run_folder(small_data, model: DanceModel, tmp_path: Path, capsys) -> None:
    """Files update_N.pt, in the order of N, beside other files; the metrics are those of the same weights."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for update in (0, 1000, 200):
        torch.save(model.state_dict(), folder / f"update_{update}.pt")
    (folder / "update_last.pt").write_bytes(b"")
    main(words(small_data, "--run-folder", tmp_path))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows[:3]] == ["0", "200", "1000"]
    assert rows[0][1:] == rows[1][1:] == rows[2][1:]
    assert sorted(path.name for path in (tmp_path / "metrics").iterdir()) == [
        f"update_{update}.json" for update in (0, 1000, 200)
    ]


@pytest.mark.slow
def test_checkpoints_are_measured_once(small_data, model: DanceModel, tmp_path: Path, capsys, monkeypatch) -> None:
    """Baselines once; files of the same settings, checkpoint and data stay."""
    fits, fit = [], MeanBaselines.fit
    monkeypatch.setattr(MeanBaselines, "fit", lambda group, *rest: fits.append(group) or fit(group, *rest))
    folder, metrics = tmp_path / "checkpoints", tmp_path / "metrics"

    def evaluate_run(*more: object) -> dict[str, int]:
        fits.clear()
        main(words(small_data, "--run-folder", tmp_path, *more))
        return {path.stem: path.stat().st_mtime_ns for path in sorted(metrics.iterdir())}

    command_refused(main, words(small_data, "--run-folder", tmp_path), capsys, tmp_path, "checkpoints")
    save_checkpoint(folder, 5, model, {})
    torch.manual_seed(1)
    other = DanceModel(model.config)
    save_checkpoint(folder, 10, other, {})
    first = evaluate_run()
    assert list(first) == ["update_10", "update_5"]
    assert fits == list(GROUPS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == list(GROUPS)
    assert [line[0] for line in lines[2:]] == ["5", "10", "mean", "sequence"]
    for line, expected in zip(lines[2:], (run(small_data, model), run(small_data, other)), strict=False):
        content = json.loads((metrics / f"update_{line[0]}.json").read_text())
        assert content["groups"] == expected
        assert content["checkpoint"] == str(folder / f"update_{line[0]}")
        assert line[1:] == [f"{expected[group]['model']['loss']:.4f}" for group in GROUPS]

    save_checkpoint(folder, 15, model, {})
    second = evaluate_run()
    assert second.items() > first.items()
    assert len(second) == 3
    assert evaluate_run() == second
    assert fits == []
    assert capsys.readouterr().out.count("\n15 ") == 2

    save_checkpoint(folder, 10, model, {})
    (metrics / "update_5.json").write_text("{")
    third = evaluate_run()
    assert [name for name in third if third[name] != second[name]] == ["update_10", "update_5"]
    fourth = evaluate_run("--length", 9)
    assert all(fourth[name] > third[name] for name in third)
    assert evaluate_run("--length", 9) == fourth
    os.utime(small_data.table)
    assert all(value > fourth[name] for name, value in evaluate_run("--length", 9).items())


def test_checkpoint_that_the_training_has_removed(model: DanceModel, tmp_path: Path, caplog) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoints", 5, model, {})
    assert load_checkpoint(str(checkpoint), of_run=True) is not None
    gone = str(tmp_path / "checkpoints/update_4")
    assert load_checkpoint(gone, of_run=True) is None
    assert "update_4 has been removed" in caplog.text
    refused(lambda: load_checkpoint(gone, of_run=False), gone)


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
def test_two_processes_give_the_numbers_of_one(small_data, model: DanceModel, structures: Path, tmp_path: Path) -> None:
    """To the last digit, rows of single proteins included; one group has fewer batches than processes."""
    save_checkpoint(tmp_path / "checkpoints", 5, model, {})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = run(small_data, model, structures=structures, batch_size=2)
    torch.set_num_threads(threads)
    checkpoint, out = tmp_path / "checkpoints/update_5", tmp_path / "two.json"
    options = ["--checkpoint", checkpoint, "--structures", structures, "--batch-size", 2, "--output", out]
    command = [sys.executable, *"-m torch.distributed.run --standalone --nproc_per_node=2".split(), evaluate.__file__]
    how: dict = {"cwd": tmp_path, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True}
    result = subprocess.run([*command, *words(small_data, *options)], timeout=300, **how)
    assert result.returncode == 0, result.stderr[-3000:]
    two = json.loads(out.read_text())["groups"]
    assert two == one
    assert result.stdout.rstrip() == metrics_text(one)


def test_no_option_is_taken_for_one_of_torchrun(capsys) -> None:
    """torchrun reads abbreviations of its own options wherever they stand on the line."""
    with pytest.raises(SystemExit):
        main(["--help"])
    ours = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help", "--nproc"}
    assert {"--run-folder", "--checkpoint", "--structures", "--per-protein"} <= ours
    theirs = {option for action in get_args_parser()._actions for option in action.option_strings}
    assert [(a, b) for a in ours for b in theirs if b.startswith(a)] == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["--checkpoint", "--run-folder"]),
        (["--checkpoint", "a", "--run-folder", "b"], ["--checkpoint", "--run-folder"]),
        (["--run-folder", "b", "--output", "c.json"], ["--run-folder", "--output"]),
        (["--checkpoint", "a", "--length", "0"], ["--length 0"]),
        (["--checkpoint", "a", "--structures", "none"], ["--structures none"]),
        (["--checkpoint", "a", "--store", "absent.h5"], ["--table data/table.csv", "--store absent.h5"]),
    ],
)
def test_invalid_options(arguments: list[str], named: list[str], capsys) -> None:
    command_refused(main, arguments, capsys, *named)


def test_entries_that_lack_properties(small_data, model: DanceModel, tmp_path: Path) -> None:
    """Test and training entries: a missing property counts for this entry neither in losses nor in baselines."""
    lacking = ["sasa_mean", "chi", "vdw", "corr"]
    names = dict.fromkeys(("PED_test_0", "mdCATH_train_1"), lacking)
    names["IDRome_test_0"] = ["sasa_mean", "hbbb"]  # the only one
    data = replace(small_data, store=without_properties(small_data.store, tmp_path / "s.h5", **names))
    metrics, complete = run(data, model), run(small_data, model)
    left = {"PED_test_0", "mdCATH_train_1"}
    others = run(small_data, model, lambda table: ~table["name"].isin(left))
    for predictor in PREDICTORS:
        found = metrics[MD][predictor]["properties"]
        for name in properties_of_group(MD):
            expected = (others if name in lacking else complete)[MD][predictor]["properties"][name]
            assert found[name] == pytest.approx(expected, rel=1e-6), name
        single = metrics[IDR][predictor]["properties"]
        assert {name for name, value in single.items() if value is None} == {"sasa_mean", "hbbb"}
    assert metrics[MD]["model"]["correlations"]["corr"] == others[MD]["model"]["correlations"]["corr"]
    assert metrics[MD]["model"]["correlations"]["rmsf_nor"] == complete[MD]["model"]["correlations"]["rmsf_nor"]
    assert metrics[IDR]["model"]["correlations"]["sasa_mean"] == {"pearson": None, "spearman": None, "proteins": 0}
    assert metrics_text(metrics)
