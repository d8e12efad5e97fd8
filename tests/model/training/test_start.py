"""What a training starts from: the whole network (--init) or its encoder (--encoder), and the sizes they bring."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hugging_face import esm2_settings
from refusals import command_refused, refused
from safetensors.torch import load_file, save_file

from model.config import PRESETS, SIZE_NAMES, TRAIN_PRESETS, ModelConfig, TrainConfig, read_train_config
from model.network.dance import DanceModel, encoder_sizes
from model.network.pair_head import KERNEL_TILE
from model.network.weights import read_esm2
from model.train_ddp import main
from model.training.checkpoint import read_training
from model.training.command_line import parse_train_config as parse
from model.training.dance_trainer import DanceTrainer, train
from model.training.processes import Process
from model.training.run_log import write_config
from model.training.start import (
    GPU_TILE,
    bytes_of,
    divided,
    gpu_micro_batch,
    parameters,
    proteins_per_update,
    training_bytes,
    unusual_batches,
)

CPU = Process(torch.device("cpu"))
SIZES = {"hidden": 24, "layers": 3, "heads": 2, "feed_forward": 40}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a SeqDance of other sizes and dropout than the presets."""
    torch.manual_seed(3)
    model = DanceModel(ModelConfig(**SIZES, encoder_dropout=0.3))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder := tmp_path_factory.mktemp("weights"))
    return folder


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an ESM2 of the same sizes, as Hugging Face writes it."""
    from transformers import EsmForMaskedLM

    EsmForMaskedLM(esm2_settings(24, 3, 2, 40)).save_pretrained(folder := tmp_path_factory.mktemp("esm2"))
    return folder


def started(data, run: Path, **options: object) -> Path:
    """Train for an update with the options of a command line, without sizes but those given; returns its checkpoint."""
    sizes = dict.fromkeys(("model.hidden", "model.layers", "model.heads", "model.feed-forward"))
    values = sizes | {"stop-after": 1} | {name.replace("__", ".").replace("_", "-"): v for name, v in options.items()}
    words = data.arguments(run, **values)
    pairs = [(words[i], words[i + 1]) for i in range(0, len(words), 2) if words[i + 1] != "None"]
    train(parse([word for pair in pairs for word in pair]), CPU)
    return sorted((run / "checkpoints").iterdir())[-1]


def sizes_of(checkpoint: Path) -> dict[str, int]:
    return {name: json.loads((checkpoint / "config.json").read_text())[name] for name in SIZES}


@pytest.mark.parametrize("form", ["folder", "file"])
def test_init_starts_all_weights_with_a_fresh_optimizer(small_data, weights: Path, tmp_path: Path, form: str) -> None:
    """The rate of the first update is so low that the weights stay those of the file; a file has no config.json."""
    path = weights
    if form == "file":
        path = Path(shutil.copy(weights / "model.safetensors", tmp_path / "alone.safetensors"))
    checkpoint = started(small_data, tmp_path / "run", init=path, learning_rate=1e-12)
    assert sizes_of(checkpoint) == SIZES
    assert json.loads((checkpoint / "config.json").read_text())["encoder_dropout"] == 0.1  # of the preset
    expected = load_file(weights / "model.safetensors")
    for name, value in load_file(checkpoint / "model.safetensors").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-9, msg=name)
    state = read_training(checkpoint)
    assert (state["update"], state["seen"]) == (1, 4)
    assert {int(moments["step"]) for moments in state["optimizer"]["state"].values()} == {1}


def test_frozen_encoder_of_init(small_data, weights: Path, tmp_path: Path) -> None:
    checkpoint = started(small_data, tmp_path / "run", init=weights, freeze="encoder")
    start, end = load_file(weights / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    changed = {name for name in end if not torch.equal(end[name], start[name])}
    assert changed == {name for name in end if not name.startswith("esm2.")}
    record = json.loads((tmp_path / "run/config.json").read_text())["config"]
    assert record["model"] == asdict(ModelConfig(**SIZES, freeze_encoder=True))
    assert (record["init"], record["freeze"]) == (str(weights), None)


def test_resumed_training_does_not_read_its_start_again(small_data, weights: Path, tmp_path: Path) -> None:
    start = Path(shutil.copytree(weights, tmp_path / "start"))
    started(small_data, tmp_path / "run", init=start)
    shutil.rmtree(start)
    checkpoint = started(small_data, tmp_path / "run", init=start, stop_after=2)
    assert (checkpoint.name, sizes_of(checkpoint)) == ("update_2", SIZES)
    wrong = {"init": start, "model__layers": 4, "stop_after": 3}
    refused(lambda: started(small_data, tmp_path / "run", **wrong), checkpoint, "--model.layers 3")


@pytest.mark.parametrize("option", ["init", "encoder"])
@pytest.mark.parametrize(("name", "ours"), [("layers", 12), ("heads", 4)])  # 12: of the preset, but given
def test_chosen_sizes_that_are_not_those_of_the_weights(small_data, weights, tmp_path, option, name, ours) -> None:
    action = lambda: started(small_data, tmp_path / "run", **{option: weights, f"model__{name}": ours})  # noqa: E731
    refused(action, f"--model.{name} {ours}", weights, f"{SIZES[name]} {SIZE_NAMES[name]}")
    same = started(small_data, tmp_path / "same", **{option: weights, f"model__{name}": SIZES[name]})
    assert sizes_of(same) == SIZES


def test_sizes_of_a_configuration_are_chosen_unless_those_of_the_preset(weights: Path) -> None:
    config = TrainConfig(init=str(weights), model=replace(ModelConfig(), layers=5))
    refused(lambda: config.with_sizes(SIZES, weights), "--model.layers 5", weights, "3 layers")
    assert TrainConfig(init=str(weights)).with_sizes(SIZES, weights).model == ModelConfig(**SIZES)
    refused(lambda: TrainConfig().with_sizes(SIZES | {"heads": 5}, weights), weights, "hidden (24)", "heads (5)")


def test_encoder_of_any_size_of_esm2(small_data, esm2: Path, tmp_path: Path) -> None:
    assert encoder_sizes(esm2) == SIZES
    checkpoint = started(small_data, tmp_path / "run", preset="esmdance", encoder=esm2)
    assert sizes_of(checkpoint) == SIZES
    end, (start, _) = load_file(checkpoint / "model.safetensors"), read_esm2(esm2)
    own = {name.removeprefix("esm2."): value for name, value in end.items() if name.startswith("esm2.")}
    assert len(own) == 3 + 3 * 16  # embeddings, final norm; of a layer 6 linear maps and 2 norms
    assert all(torch.equal(value, start[name]) for name, value in own.items())  # esmdance freezes them


def test_sizes_without_a_config_come_from_the_tensors(small_data, weights: Path, esm2: Path, tmp_path: Path) -> None:
    state = load_file(esm2 / "model.safetensors")
    frequencies = {"esm.encoder.layer.0.attention.self.rotary_embeddings.inv_freq": torch.ones(6)}
    contacts = {"esm.contact_head.regression.weight": torch.ones(1, 6)}
    plain = {name: value for name, value in state.items() if "contact_head" not in name and "inv_freq" not in name}
    for number, more in enumerate(({}, frequencies, contacts)):
        save_file(plain | more, path := tmp_path / f"{number}.safetensors")
        assert encoder_sizes(path) == {name: SIZES[name] for name in SIZES if more or name != "heads"}
    assert encoder_sizes(shutil.copy(weights / "model.safetensors", tmp_path / "dance.safetensors")) == SIZES
    published = shutil.copytree(weights, tmp_path / "published") / "config.json"
    published.write_text('{"model_select": "esmdance", "esm2_select": "model_35M"}')
    assert encoder_sizes(published.parent) == {name: getattr(ModelConfig(), name) for name in SIZES}
    alone = tmp_path / "0.safetensors"  # nothing tells the heads: those of the preset
    refused(lambda: started(small_data, tmp_path / "run", encoder=alone), alone, "hidden (24) / heads (20)")
    assert sizes_of(started(small_data, tmp_path / "run", encoder=alone, model__heads=2)) == SIZES


def test_what_is_not_an_encoder_is_refused(esm2: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, other := tmp_path / "other.pt")
    refused(lambda: encoder_sizes(other), other, "embeddings.word_embeddings.weight")
    esm1 = shutil.copytree(esm2, tmp_path / "esm1")
    settings = json.loads((esm2 / "config.json").read_text()) | {"position_embedding_type": "absolute"}
    (esm1 / "config.json").write_text(json.dumps(settings))
    refused(lambda: encoder_sizes(esm1), esm1, "position_embedding_type", "absolute")


def test_init_and_encoder_exclude_each_other(weights: Path, tmp_path: Path, capsys) -> None:
    """The one that is given replaces the other one of a preset or a former run."""
    command_refused(main, ["--init", "a", "--encoder", "b"], capsys, "--init a", "--encoder b")
    refused(lambda: TrainConfig(init="a", encoder="b"), "--init a", "--encoder b")
    chosen = parse(["--preset", "esmdance", "--init", "a"])
    assert (chosen.init, chosen.encoder, chosen.model) == ("a", None, PRESETS["esmdance"])
    path = tmp_path / "config.json"
    write_config(replace(chosen, output=tmp_path), {}, ["cpu"])
    assert read_train_config(path) == replace(chosen, output=tmp_path)
    again = parse(["--config", str(path), "--encoder=b"])
    assert (again.init, again.encoder) == (None, "b")
    path.write_text("preset: esmdance\ninit: a\n")
    assert read_train_config(path) == replace(TRAIN_PRESETS["esmdance"], init="a", encoder=None)


def test_freeze_and_the_field_of_the_model_agree(capsys) -> None:
    assert parse(["--freeze", "encoder"]).model == replace(ModelConfig(), freeze_encoder=True)
    trained = parse(["--preset", "esmdance", "--freeze", "none"]).model
    assert trained == replace(PRESETS["esmdance"], freeze_encoder=False)
    assert parse(["--preset", "esmdance"]).model.freeze_encoder
    assert parse(["--freeze", "encoder", "--model.freeze-encoder"]) == TrainConfig(freeze="encoder")
    for words in (["--freeze", "none", "--model.freeze-encoder"], ["--freeze", "encoder", "--model.no-freeze-encoder"]):
        command_refused(main, words, capsys, " ".join(words[:2]), "model.freeze-encoder")


@pytest.mark.parametrize(
    ("words", "processes", "most", "short", "long"),
    [
        ("", 4, None, (16, 2), (2, 16)),  # as published; None: on a CPU
        ("", 1, None, (16, 8), (2, 64)),
        ("", 8, None, (16, 1), (2, 8)),
        ("", 16, None, (8, 1), (2, 4)),
        ("", 3, None, (16, 2), (2, 16)),  # 128 is not divisible
        ("", 4, 45, (32, 1), (32, 1)),
        ("", 2, 10, (8, 8), (8, 8)),
        ("", 1, 1, (1, 128), (1, 128)),
        ("", 3, 5, (4, 8), (4, 8)),
        ("--short.micro-batch 16", 4, 45, (16, 2), (32, 1)),  # chosen, though that of the preset
        ("--short.micro-batch 4 --long.micro-batch 5", 2, 45, (4, 16), (5, 16)),  # 128 / (2 x 5) is no number
        ("--short.accumulation 4 --long.accumulation 16", 4, 45, (16, 4), (2, 16)),
        ("--preset demo", 2, 45, (4, 1), (4, 1)),
        ("--preset demo", 2, 1, (1, 4), (1, 4)),
    ],
)
def test_processes_and_memory_divide_an_update(words: str, processes: int, most: int | None, short, long) -> None:
    config = divided(parse(words.split()), processes, lambda stage: stage.micro_batch if most is None else most)
    assert [(own.micro_batch, own.accumulation) for own in (config.short, config.long)] == [short, long]
    assert (config.short.length, config.long.length) == ((64, 128) if "demo" in words else (256, 1024))


def test_a_configuration_of_other_batches_is_chosen(tmp_path: Path) -> None:
    (path := tmp_path / "c.yaml").write_text("short: {micro_batch: 8}\nlong: {micro_batch: 2}\n")
    config = divided(read_train_config(path), 4, lambda _: 45)
    assert [(own.micro_batch, own.accumulation) for own in (config.short, config.long)] == [(8, 4), (32, 1)]


@pytest.mark.parametrize(
    ("precision", "freeze", "kernels"),
    [("bf16", False, False), ("bf16", False, True), ("bf16", True, True), ("fp32", True, False)],
)
def test_estimated_memory_is_that_of_a_pass(
    monkeypatch: pytest.MonkeyPatch, freeze: bool, precision: str, kernels: bool
) -> None:
    """Counted on tensors without memory; on an H200 it was 95 of estimated 107 GB."""
    if kernels:
        pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    from launches import micro_step

    config = ModelConfig(hidden=320, layers=2, heads=20, feed_forward=1280, freeze_encoder=freeze)
    counted, _ = micro_step(256, 2, True, config, precision, kernels)
    estimate = 3 * 2 * training_bytes(config, 256, precision)
    assert counted.held == pytest.approx(estimate, rel=0.25)
    assert counted.peak < estimate + 2 * (KERNEL_TILE if kernels else GPU_TILE) * bytes_of(precision)


def test_micro_batches_of_a_card() -> None:
    config, card = ModelConfig(), 24 * 10**9
    for length, other in ((256, 25), (1024, 2)):
        found = gpu_micro_batch(config, length, 3, "bf16", card)
        assert found == other
        needed = 3 * found * training_bytes(config, length, "bf16") + 16 * parameters(config) + 4 * GPU_TILE
        assert needed < 2**34
        assert gpu_micro_batch(config, length, 3, "bf16", card // 2) < found
        assert gpu_micro_batch(config, length, 1, "bf16", card) >= 3 * found
        assert gpu_micro_batch(config, length, 3, "bf16", 22 * 10**9) == found  # the same share
    assert gpu_micro_batch(config, 1024, 3, "bf16", 10**12) == 2  # more would compute the middle layer twice
    assert gpu_micro_batch(config, 1024, 3, "bf16", 150 * 10**9, kernels=True) == 19  # an H200
    assert gpu_micro_batch(config, 1024, 3, "bf16", 0) == 1


def test_another_card_continues_the_same_run(small_data, tmp_path: Path, monkeypatch, capsys) -> None:
    """Passes of other sizes: the same samples and, to rounding, the same weights."""
    sizes = {"preset": "demo", "init": "None", "model.encoder-dropout": 0.0, "model.head-dropout": 0.0}
    words = small_data.arguments(tmp_path, **sizes)
    pairs = zip(words[::2], words[1::2], strict=True)
    words = [word for pair in pairs if "micro" not in pair[0] and "accum" not in pair[0] for word in pair]
    ends = []
    for run, most in (("whole", (4, 4)), ("parts", (2, 1))):
        for stop, number in zip((6, 8), most, strict=True):
            monkeypatch.setattr(DanceTrainer, "most_proteins", lambda _, stage, number=number: number)
            main([*words, "--output", str(tmp_path / run), "--stop-after", str(stop)])
        ends.append(load_file(tmp_path / run / "checkpoints/update_8/model.safetensors"))
        assert read_training(tmp_path / run / "checkpoints/update_8")["seen"] == 8 * 4
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4, msg=name)
    record = json.loads((tmp_path / "parts/config.json").read_text())
    assert (record["short"]["micro_batch"], record["short"]["accumulation"]) == (1, 4)
    assert record["config"]["short"]["micro_batch"] == 4  # for another run
    assert "short: 1 in a pass x 4 passes" in capsys.readouterr().out


def test_a_group_that_joins_later(small_data, tmp_path: Path) -> None:
    """The table has its entries from the fourth update on."""
    table = pd.read_csv(small_data.table)
    (first := tmp_path / "first.csv").write_text(table[table["source"] != "IDRome"].to_csv(index=False))
    config = small_data.config(tmp_path / "run", table=first, stop_after=3, log_every=4, checkpoint_every=3)
    train(config, CPU)
    train(replace(config, table=small_data.table, stop_after=4, allow_changes=("table", "loss-weights")), CPU)
    (line,) = map(json.loads, (tmp_path / "run/log.jsonl").read_text().splitlines())
    losses = line["IDRome_loss"], line["Proteinflow_loss"]
    assert all(loss is not None and loss > 0 for loss in losses)


def test_another_number_of_proteins_is_refused(small_data, tmp_path: Path) -> None:
    config = small_data.config(tmp_path, stop_after=1)
    train(config, CPU)
    assert proteins_per_update(config.short, 1) == 4
    more = replace(config, stop_after=2, short=replace(config.short, accumulation=3))
    option = "4 proteins of each group in an update (--short.accumulation 2 with --short.micro-batch 2), not 6"
    refused(lambda: train(more, CPU), option, "--allow-changes short.accumulation")
    train(replace(more, allow_changes=("short.accumulation",)), CPU)
    assert read_training(tmp_path / "checkpoints/update_2")["seen"] == 4 + 6


@pytest.mark.parametrize(
    ("words", "processes", "named"),
    [
        (["--preset", "seqdance"], 4, None),
        (["--preset", "esmdance"], 1, None),
        (["--preset", "demo"], 1, None),
        (["--short.accumulation", "1", "--long.accumulation", "8"], 8, None),
        (["--short.accumulation", "2"], 1, "32 (short) proteins|--short.accumulation 8 "),
        (["--long.micro-batch", "8", "--long.accumulation", "8"], 4, "has 256 (long)|give --long.accumulation 4 for"),
        (["--preset", "esmdance"], 3, "96 (short) and 96 (long)|3 process(es)|another number of processes"),
    ],
)
def test_other_numbers_of_proteins_than_published_are_named(
    words: list[str], processes: int, named: str | None
) -> None:
    line = unusual_batches(divided(parse(words), processes, lambda stage: stage.micro_batch), processes)
    if named is None:
        assert line is None
    else:
        assert line is not None
        assert all(part in line for part in named.split("|")), line


def test_training_warns_of_other_numbers_of_proteins(small_data, tmp_path: Path, caplog) -> None:
    config = small_data.config(tmp_path, stop_after=1)
    train(config, CPU)
    (line,) = [record.message for record in caplog.records if "proteins" in record.message]
    assert line == f"warning: {unusual_batches(config, 1)}"
    assert "4 (short) and 2 (long)" in line
