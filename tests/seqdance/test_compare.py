"""The commands `seqdance compare` and `seqdance show`."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from refusals import command_refused
from stores import real_entry, write_store

from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.errors import InputWarning
from model.evaluation import measurement
from model.evaluation.measurement import Measurement
from seqdance.commands import compare, show

SEQUENCE = "MKTAYIAKQRGSWLEEVNDP<eos><cls>CFHMKTGGAYLE"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two entries of a protein of two chains, which name their sequence, and normal modes of an unknown one."""
    path = tmp_path / "f.h5"
    with StoreWriter(path) as writer:
        for seed, name in enumerate("ab"):
            writer.add(name, *real_entry(32, seed=seed, chains=[20, 12]), {"modify_seq": SEQUENCE})
        writer.add("nma", *real_entry(32, "nma"))
    return path


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_files_of_a_comparison(store: Path, tmp_path: Path, capsys, form: str) -> None:
    output = tmp_path / "out"
    compare.main([f"{store}:a", f"{store}:b", "--output", str(output), "--format", form])
    paths = [output / name for name in ("comparison.csv", "residues.csv", f"comparison.{form}")]
    assert capsys.readouterr().out.split() == list(map(str, paths))
    table, residues = (pd.read_csv(path, keep_default_na=False) for path in paths[:2])
    assert {"ss", "contacts", "corr", "rmsf"} <= set(table["property"])
    assert list(residues["chain_a"]) == ["A"] * 20 + ["B"] * 12
    assert list(residues["number_b"]) == [*range(1, 21), *range(1, 13)]
    assert "".join(residues["residue_a"]) == SEQUENCE.replace("<eos><cls>", "")
    if form == "png":
        assert matplotlib.image.imread(paths[2]).shape[1] > 1500


@pytest.mark.parametrize(
    ("sources", "second", "names"),
    [
        (("x/f.h5:a", "y/f.h5:a"), {}, ["x/f.h5:a", "y/f.h5:a"]),
        (("runs/1/p.pdb:runs/1/p.xtc", "p.pdb:p.xtc"), {}, ["1/p.xtc", "p.pdb:p.xtc"]),
        (("a.pdb:x/p.xtc,x/q.xtc", "a.pdb:x/p.xtc"), {}, ["p.xtc (2 replicas)", "p.xtc"]),
        (("a.pdb:1/p.xtc,q.xtc", "a.pdb:2/p.xtc,q.xtc"), {}, ["1/p.xtc (2 replicas)", "2/p.xtc (2 replicas)"]),
        (("a.pdb:p.xtc,q.xtc", "a.pdb:p.xtc,r.xtc"), {}, ["p.xtc,q.xtc", "p.xtc,r.xtc"]),
        (("p.pdb:p.xtc", "p.pdb:p.xtc"), {"begin": 30}, ["p, begin 0", "p, begin 30"]),
        (("p.pdb:p.xtc", "p.pdb:p.xtc"), {"begin": 9, "end": 30}, ["p, begin 0", "p, begin 9, end 30"]),
        (("p.pdb:p.xtc", "f.h5:p"), {"label": "p"}, ["p", "p"]),
        (("p.pdb:p.xtc", "f.h5:q"), {}, ["p", "q"]),
    ],
)
def test_sides_of_one_name_differ_by_what_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sources: tuple[str, str], second: dict, names: list[str]
) -> None:
    def read(source: str, *_: object) -> Measurement:
        none = np.zeros(0, np.intp)
        return Measurement(Path(re.split("[:,]", source)[1]).stem, (), none, none.astype(np.int32), (), (), {})

    monkeypatch.setattr(measurement, "check_source", lambda _: None)
    monkeypatch.setattr(measurement, "read_measurement", read)
    options = compare.CompareOptions(sources=sources, output=tmp_path / "out", b=compare.Side(**second))
    assert [own.name for own in compare.sides(options)[:2]] == names


@pytest.mark.slow
def test_prediction_beside_a_measurement(store: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    options = ["--model", str(tiny_model_folder), "--device", "cpu"]
    compare.main([f"{store}:a", *options, "--output", str(tmp_path / "out"), "--b.label", "tiny"])
    table = pd.read_csv(tmp_path / "out" / "comparison.csv", index_col="property")
    assert "rmsf_nor" in table.index
    assert not any(name.startswith("nma") for name in table.index)
    for name, more in (("a", options), ("nma", [])):
        show.main([str(store), name, *more, "--output", str(tmp_path / f"{name}.png")])
        assert matplotlib.image.imread(tmp_path / f"{name}.png").shape[1] > 1000


def test_missing_properties_are_named(tmp_path: Path) -> None:
    residue, pair = real_entry(12)
    residue[1:-1, 0] = float("nan")
    path = tmp_path / "f.h5"
    with StoreWriter(path) as writer:
        writer.add("a", residue, pair, {"missing_properties": '["sasa_mean"]'})
    with pytest.warns(InputWarning, match="entry a lacks sasa_mean$"):
        show.main([str(path), "a", "--output", str(tmp_path / "a.png")])


def test_both_sides_are_found_before_one_is_computed(
    store: Path, tmp_path: Path, examples: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "of_trajectories", lambda *_: pytest.fail("computed"))
    pdb = examples / "trajectories" / "5pti.pdb"
    trajectory, out = f"{pdb}:{pdb.with_suffix('.xtc')}", ["--output", tmp_path / "out"]
    for second, named in (
        (["none.pdb"], "none.pdb"),
        ([f"{pdb}:none.xtc"], "none.xtc"),
        ([f"{store}:none"], "'none'"),
        (["--model", tmp_path / "none"], tmp_path / "none"),
    ):
        command_refused(compare.main, [trajectory, *second, *out], capsys, named)


def test_refused(store: Path, tmp_path: Path, examples: Path, capsys) -> None:
    pdb, out = examples / "trajectories" / "5pti.pdb", ["--output", tmp_path / "out"]
    for arguments, named in (
        ([f"{store}:a", *out], ("--model",)),
        ([f"{store}:a", f"{store}:b", "--model", "x", *out], ("--model",)),
        ([f"{store}:a", f"{store}:c", *out], (store, "'c'", "a, b, nma")),
        ([f"{store}:nma", "--model", tmp_path, *out], ()),
        ([f"{store}:a", f"{store}:nma", *out], ("a and nma",)),
        ([f"{store}:a", tmp_path / "x.pdb", *out], (tmp_path / "x.pdb",)),
        *(([source, f"{store}:a", *out], ("no such file",)) for source in ("", ".", "/", f"{pdb}:.", f"{pdb}:/")),
    ):
        command_refused(compare.main, arguments, capsys, *named)
    assert not (tmp_path / "out").exists()
    command_refused(show.main, [store, "c", "--output", tmp_path / "c.png"], capsys, store, "c")
    unknown = write_store(tmp_path / "u.h5", a=real_entry(20))
    command_refused(show.main, [unknown, "a", "--model", "x", "--output", tmp_path / "c.png"], capsys, "x")
