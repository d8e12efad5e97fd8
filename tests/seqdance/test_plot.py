from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from refusals import command_refused

from data_prepare.errors import InputWarning
from data_prepare.properties import GROUPS, PROPERTIES, properties_of_group
from model.figures import dyna1, training
from model.training.run_log import GRADIENT_NORM, TOKENS_PER_SECOND, read_metrics, read_run_log
from seqdance.commands.plot import main

MD, IDR, NMA = GROUPS


def write_log(run: Path, updates: int = 250) -> None:
    """A log as a training writes it: one gradient norm is not there, and the last line is cut off."""
    run.mkdir()
    with (run / "log.jsonl").open("w") as file:
        for update in range(1, updates + 1):
            line = {"n_update": update, "Learning Rate": 1e-4, "Max_len": 256 if update <= 200 else 1024}
            for group in GROUPS:
                line |= {f"{group}_{name}": 1 + 10 / update for name in (*properties_of_group(group), "loss")}
            line |= {GRADIENT_NORM: None if update == 5 else 2.0, TOKENS_PER_SECOND: 1e4}
            file.write(json.dumps(line) + "\n")
        file.write('{"n_upd')


def write_metrics(run: Path, update: int, loss: float | None = 2.5) -> None:
    (run / "metrics").mkdir(exist_ok=True)
    groups = {
        group: {"model": {"loss": 7.5, "properties": dict.fromkeys(properties_of_group(group), loss)}}
        for group in (MD, NMA)
    }
    (run / "metrics" / f"update_{update}.json").write_text(json.dumps({"groups": groups}))


@pytest.mark.filterwarnings("error")
def test_command_draws_a_picture(tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    write_log(run)
    with pytest.warns(InputWarning, match="1 of 251 lines"):  # the last line is not whole
        main([str(run)])
    assert capsys.readouterr().out == f"{run / 'curves.png'}\n"
    picture = matplotlib.image.imread(run / "curves.png")
    assert picture.shape[0] > 1000
    assert picture.shape[1] == 1200


def test_training_of_dyna1(tmp_path: Path) -> None:
    """Losses and AUROC of each epoch; the best epoch is marked, one without an AUROC leaves a gap."""
    areas = [0.5, 0.7, None, 0.6]
    lines = [
        {"n_epoch": k, "n_update": 10 * k, "loss": 1 / k, "validation_loss": 2 / k, "validation_auroc": area}
        for k, area in enumerate(areas, start=1)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    main([str(tmp_path), "--out", str(tmp_path / "x" / "curves.svg")])
    assert "<svg" in (tmp_path / "x" / "curves.svg").read_text()
    losses, right = dyna1.draw_training(pd.DataFrame(lines).set_index("n_epoch")).axes
    assert [list(line.get_ydata()) for line in losses.lines] == [[1, 1 / 2, 1 / 3, 1 / 4], [2, 1, 2 / 3, 1 / 2]]
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [0.5, 0.7, np.nan, 0.6])
    assert [line.get_xydata().tolist() for line in right.lines[1:2]] == [[[2, 0.7]]]


def test_every_curve_is_that_of_the_log(tmp_path: Path) -> None:
    """A panel per group and property; raw values and their mean over the last two lines; test losses as dots."""
    run = tmp_path / "run"
    write_log(run)
    write_metrics(run, 100)
    write_metrics(run, 20, loss=None)  # of a property that no test entry has
    log = pd.DataFrame([json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()[:-1]])
    figure = training.draw_training(log.set_index("n_update"), read_metrics(run / "metrics"))
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    expected = {group.replace("_", " ") for group in GROUPS} | set(PROPERTIES)
    assert set(panels) == expected | {"learning rate", "gradient norm", "tokens per second"}

    values = 1 + 10 / np.arange(1, 251)
    raw, mean, dots = panels["corr"].lines[:3]
    np.testing.assert_allclose(raw.get_ydata(), values)
    np.testing.assert_allclose(mean.get_ydata()[1:], (values[1:] + values[:-1]) / 2)
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([100], [2.5])
    assert len(panels["corr"].lines) == 3 + 2  # of two groups, one has test entries
    assert len(panels["nma_pair1"].lines) == 3
    total = panels["IDRome"].lines
    assert list(panels["Proteinflow"].lines[2].get_ydata()) == [7.5, 7.5]
    assert list(panels["Proteinflow"].lines[2].get_xdata()) == [20, 100]
    assert list(total[2].get_xdata()) == [200, 200]  # where the length changes; no test entry of this group
    (lengths,) = panels["IDRome"].texts
    assert (lengths.get_text(), lengths.get_position()[1] > 1) == ("length 256 | 1024", True)  # above the data
    assert np.isnan(panels["gradient norm"].lines[0].get_ydata()[4])


@pytest.mark.parametrize("updates", [1, 2])
def test_first_updates_of_one_group(tmp_path: Path, updates: int) -> None:
    """Each is marked, at whole updates; the other groups and their properties have no panels."""
    columns = [*(f"{NMA}_{name}" for name in (*properties_of_group(NMA), "loss")), "Learning Rate", GRADIENT_NORM]
    log = pd.DataFrame(0.5, index=pd.RangeIndex(1, updates + 1), columns=columns)
    figure = training.draw_training(log, {})
    figure.draw_without_rendering()
    panels = {axes.get_title(): axes for axes in figure.axes if axes.axison}
    assert set(panels) == {NMA, *properties_of_group(NMA), "learning rate", "gradient norm"}
    for axes in panels.values():
        assert axes.lines[0].get_marker() == "."
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == list(log.index)


@pytest.mark.parametrize("form", ["lines", "list", "indented list"])
def test_published_log(tmp_path: Path, form: str) -> None:
    """training_log.json, the lines of two processes; without our columns."""
    lines = [
        {"rank": rank, "n_epoch": 0, "n_update": update, "Learning Rate": 1e-4, f"{MD}_loss": update + 100 * rank}
        for update in (20, 40, 60, 40)
        for rank in (0, 1)
    ]
    texts = {
        "lines": "".join(json.dumps(line) + "\n" for line in lines),
        "list": json.dumps(lines),
        "indented list": json.dumps(lines, indent=1),
    }
    (tmp_path / "training_log.json").write_text(texts[form])
    if form == "lines":
        main([str(tmp_path)])
        assert (tmp_path / "curves.png").is_file()
    log = read_run_log(tmp_path)
    assert log[["n_update", f"{MD}_loss"]].to_numpy().tolist() == [[20, 20], [60, 60], [40, 40]]


@pytest.mark.parametrize("content", ["{", '[{"x": 1}]', "[1, 2]", '{"n_update": [1, 2], "loss": 2}\n{"loss": 1}'])
def test_unusable_published_log(tmp_path: Path, capsys, content: str) -> None:
    (tmp_path / "training_log.json").write_text(content)
    command_refused(main, [tmp_path], capsys, tmp_path / "training_log.json")


@pytest.mark.parametrize("name", ["log.jsonl", "training_log.json"])
def test_damaged_lines_are_left_out(tmp_path: Path, name: str) -> None:
    """Half a line, bytes that are no text, other objects, numbers without limit, texts in place of numbers."""
    sound = [json.dumps({"rank": 0, "n_update": n, "loss": "x" if n == 3 else n}).encode() for n in range(1, 5)]
    damaged = [
        b'{"n_upd',
        b"\xff\x00" * 9,
        b"[1]",
        b'{"n_update": "1"}',
        b'{"n_update": 9, "loss": 1' + b"0" * 400 + b"}",
    ]
    (tmp_path / name).write_bytes(b"\n".join([*damaged[:3], *sound, *damaged[3:]]))
    with pytest.warns(InputWarning, match=f"{name}: 5 of 9 lines"):
        log = read_run_log(tmp_path)
    np.testing.assert_array_equal(log[["n_update", "loss"]], [[1, 1], [2, 2], [3, np.nan], [4, 4]])


@pytest.mark.parametrize("content", [None, "", '{"n_upd'])
def test_run_without_a_log(tmp_path: Path, capsys, content: str | None) -> None:
    if content is not None:
        (tmp_path / "log.jsonl").write_text(content)
    command_refused(main, [tmp_path], capsys, tmp_path / "log.jsonl", "--output")


def test_unknown_format_and_damaged_metrics(tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    write_log(run, 3)
    command_refused(main, [run, "--out", tmp_path / "c.abc"], capsys, "c.abc")
    for content in ("[1]", "{", '{"group": {}}'):
        write_metrics(run, 2)
        (run / "metrics/update_3.json").write_text(content)
        command_refused(main, [run], capsys, "update_3.json", "evaluate")
    assert not (run / "curves.png").exists()


def test_a_number_of_400_digits_in_metrics_is_drawn_as_infinite(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_log(run, 3)
    write_metrics(run, 2)
    path = run / "metrics/update_2.json"
    path.write_text(re.sub(r'"loss": [^,}]+', f'"loss": {"9" * 400}', path.read_text()))
    assert "9" * 400 in path.read_text()
    main([str(run)])
    assert (run / "curves.png").is_file()
