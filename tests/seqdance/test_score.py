"""The command `seqdance score`: its tables, its errors, and that a killed run loses and doubles nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_prepare.properties import PROPERTIES, RESIDUE_PROPERTIES
from model.config import ModelConfig
from model.mutations.score import PROPERTIES_OF, SCORES, score_mutations
from model.network.dance import DanceModel, load_model
from seqdance.commands import score as score_module
from seqdance.commands.score import main

WILD_TYPE = "MQIFVKTLTG"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    DanceModel(ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16)).save_pretrained(folder)
    return str(folder)


def arguments(model: str, output: Path, **options: object) -> list[str]:
    words = ["--model", model, "--output", str(output)]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def check_against_api(tiny: str, table: pd.DataFrame, wild_type: str, properties: str = "all") -> None:
    """The rows of one protein are those of `score_mutations`."""
    expected = score_mutations(load_model(tiny, "cpu"), wild_type, table["mutant"].tolist(), properties=properties)
    columns = [*SCORES, *PROPERTIES_OF[properties]]
    np.testing.assert_allclose(table[columns], expected[columns], rtol=0, atol=1e-5)


def test_table(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(tiny, tmp_path / "s.csv", sequence=WILD_TYPE))
    assert capsys.readouterr().out.split() == [str(tmp_path / "s.csv"), str(tmp_path / "s.png")]
    table = pd.read_csv(tmp_path / "s.csv")
    assert list(table.columns) == ["protein", "mutant", "score", "damage", *SCORES, *PROPERTIES]
    assert set(table["protein"]) == {"sequence"}
    assert len(table) == 190
    check_against_api(tiny, table, WILD_TYPE)
    assert (table["score"] == table["norm_geometric_mean"]).all()
    assert table["damage"].tolist() == pytest.approx((table["score"].rank() / 190).tolist())  # the wild type is below
    assert sorted(os.listdir(tmp_path)) == ["s.csv", "s.png"]  # the work file is gone


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz", "s.parquet"])
def test_several_proteins_in_pieces(tiny: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_module, "ROWS_PER_PIECE", 7)
    fasta = tmp_path / "p.fasta"
    chains = {"a": "MQIF<eos><cls>VKTL", "b": "ACDEFGHIKLMN", "c": "WW"}
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in chains.items()))
    main(arguments(tiny, tmp_path / name, fasta=fasta, properties="residue", sequences=True, batch_size=5))
    table = pd.read_parquet(tmp_path / name) if name.endswith("parquet") else pd.read_csv(tmp_path / name)
    assert list(table.columns[:3]) == ["protein", "mutant", "sequence"]
    assert list(table.columns[-10:]) == list(RESIDUE_PROPERTIES)
    assert table["protein"].tolist() == ["a"] * 152 + ["b"] * 228 + ["c"] * 38
    for protein, wild_type in chains.items():
        rows = table[table["protein"] == protein]
        assert (rows["sequence"] != wild_type).all()
        check_against_api(tiny, rows, wild_type, "residue")
    assert sorted(os.listdir(tmp_path)) == ["p.fasta", name]


def test_mutants_of_a_file(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "p.fasta").write_text(">a\nMQIF\n>b\nACDE\n")
    (tmp_path / "m.csv").write_text("protein,mutant\nb,D13W\na,Q12A:F14A\nb,wt\na,M11C\n")
    main(arguments(tiny, tmp_path / "s.csv", fasta=tmp_path / "p.fasta", mutants=tmp_path / "m.csv", offset=10))
    table = pd.read_csv(tmp_path / "s.csv")
    assert table["mutant"].tolist() == ["Q12A:F14A", "M11C", "D13W", "wt"]
    assert table["damage"].tolist()[2:] == [1, 0]
    assert sorted(table["damage"][:2]) == [0.5, 1]
    assert (table.loc[3, list(PROPERTIES)] == 0).all()
    assert not (tmp_path / "s.png").exists()


def test_windows(tiny: str, tmp_path: Path) -> None:
    """Mutants of a long protein come out in their order, not in that of the windows."""
    wild_type = "ACDEFGHIKL" * 130
    labels = "A1291C,A11C,C702D,wt,A1C,A701W:K1289A"
    main(arguments(tiny, tmp_path / "s.csv", sequence=wild_type, mutations=labels, properties="residue"))
    table = pd.read_csv(tmp_path / "s.csv")
    assert table["mutant"].tolist() == labels.split(",")
    check_against_api(tiny, table, wild_type, "residue")
    values = table[list(RESIDUE_PROPERTIES)].to_numpy()
    assert len(np.unique(values.round(9), axis=0)) == 6


MEASURED = {
    "megascale": "name,aa_seq,mut_type,WT_name,ddG_ML\n,WQIF,M1W,p,1.0\n,MQIF,wt,p,0\n,ACD,wt,q,0\n,ACW,D3W,q,-\n"
    ",AAD,C2A,q,0.5\n,MQAA,I3A:F4A,p,2\n",
    "proteingym": "mutant,mutated_sequence,DMS_score\nM1W,WQIF,1.0\nI3A:F4A,MQAA,2.0\n",
}


def test_measured_forms(tiny: str, tmp_path: Path) -> None:
    for form, text in MEASURED.items():
        (tmp_path / f"{form}.csv").write_text(text)
        main(arguments(tiny, tmp_path / "s.csv", **{form: tmp_path / f"{form}.csv"}))
        table = pd.read_csv(tmp_path / "s.csv").set_index("protein")
        rows = table.loc["p" if form == "megascale" else "proteingym"]
        assert rows["mutant"].tolist() == ["M1W", "I3A:F4A"]
        check_against_api(tiny, rows, "MQIF")
    main(arguments(tiny, tmp_path / "s.csv", proteingym=tmp_path / "proteingym.csv", sequence="MQIF"))
    assert len(pd.read_csv(tmp_path / "s.csv")) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "no protein is given"),
        ({"sequence": "MQIF", "chain": "A"}, "--chain A goes with --pdb or --cif"),
        ({"sequence": "MQIF", "mutations": "M1A", "all_single": True}, "--all-single and --mutations are given"),
        ({"sequence": "MQIF", "mutations": "M1A,Q2C,M1A"}, "sequence: mutant M1A is given twice (numbers 1 and 3)"),
        ({"sequence": "MQIF", "mutations": "M1A,"}, "an empty mutant"),
        ({"sequence": "MQIF", "mutations": "M1M"}, "M1M changes nothing"),
        ({"sequence": "MQIF*"}, "--sequence, position 5: '*' is not in the alphabet"),
        ({"sequence": "MQ IF"}, "--sequence, position 3: ' ' is not in the alphabet"),
        ({"sequence": "<mask>"}, "no mutants to score"),
        ({"sequence": "MQIF", "mutants": "none.csv"}, "none.csv: no such table"),
        ({"sequence": "A" * 1100, "mutations": "A2C:A1090C"}, "sequence: mutation 'A2C:A1090C': its substitutions"),
        ({"fasta": "two.fasta", "mutations": "M1A"}, "--mutations are of one protein, two.fasta has 2; use --mutants"),
        ({"megascale": "m.csv", "sequence": "MQIF"}, "--megascale brings its wild types"),
        ({"megascale": "m.csv", "offset": 3}, "--megascale numbers its mutations itself"),
        ({"proteingym": "p.csv", "sequence": "MQIW"}, "p.csv: its mutants are not of the wild type"),
        ({"proteingym": "p.csv", "fasta": "two.fasta"}, "--proteingym is of one protein, two.fasta has 2"),
        ({"sequence": "MQIF", "batch_size": 0}, "--batch-size 0: it must be at least 1"),
    ],
)
def test_wrong_input_is_one_line(
    tiny: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.fasta").write_text(">a\nMQIF\n>b\nACDE\n")
    Path("m.csv").write_text(MEASURED["megascale"])
    Path("p.csv").write_text(MEASURED["proteingym"])
    with pytest.raises(SystemExit) as left:
        main(arguments(tiny, Path("s.csv"), **options))
    assert left.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert reason in last
    assert sorted(os.listdir()) == ["m.csv", "p.csv", "two.fasta"]


def test_output_names(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the model is loaded, of which there is none here."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("text")
    for name, reason in (
        ("s.png", "give it the suffix .csv"),
        ("s.parquet", "needs the package pyarrow"),
        ("s.xlsx", "tables are written as .csv, .csv.gz or .parquet"),
        ("s.gz", "tables are written as .csv, .csv.gz or .parquet"),
        ("s", "tables are written as .csv, .csv.gz or .parquet"),
        ("folder.csv", "this is a folder"),
        ("file/s.csv", f"{tmp_path / 'file'} is a file, not a folder"),
        ("file/x/s.csv", f"{tmp_path / 'file'} is a file, not a folder"),
    ):
        with pytest.raises(SystemExit):
            main(arguments("none", tmp_path / name, sequence="MQIF"))
        assert reason in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.csv"]


def test_gzipped_table_has_no_name_and_time(tiny: str, tmp_path: Path) -> None:
    main(arguments(tiny, tmp_path / "s.csv.gz", sequence="MQIF", mutations="M1A"))
    header = (tmp_path / "s.csv.gz").read_bytes()[:8]
    assert header == b"\x1f\x8b\x08" + bytes(5)  # flags (name) and time are 0


@pytest.mark.parametrize("content", [b"my notes", b"seqdance score notes", bytes(100)])
def test_file_of_the_user_is_kept(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], content) -> None:
    own = tmp_path / "s.csv.changes"
    own.write_bytes(content)
    with pytest.raises(SystemExit):
        main(arguments(tiny, tmp_path / "s.csv", sequence="MQIF"))
    assert f"{own}: not a work file of seqdance score; move it" in capsys.readouterr().err
    assert own.read_bytes() == content


def test_network_that_is_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = DanceModel(ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16))
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    with pytest.raises(SystemExit):
        main(arguments(str(tmp_path / "nan"), tmp_path / "s.csv", sequence="MQIF"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"numbers that are not finite; check the weights of {tmp_path / 'nan'}")
    assert not (tmp_path / "s.csv").exists()
    assert (tmp_path / "s.csv.changes").stat().st_size == len(f"seqdance score 1 {'f' * 64}\n")  # only a header


def run_and_kill(words: list[str], work: Path, size: int) -> int:
    """Start the command, kill it once its work file has this size; returns the size it is left with."""
    with subprocess.Popen([sys.executable, "-m", "seqdance.cli", "score", *words], stderr=subprocess.DEVNULL) as run:
        while not (work.exists() and work.stat().st_size >= size):
            assert run.poll() is None, "the run ended before it was killed"
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
    return work.stat().st_size


def test_killed_runs_lose_and_double_nothing(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.fasta").write_text(f">a\n{WILD_TYPE}\n>b\n{WILD_TYPE * 2}\n")
    options = {"fasta": tmp_path / "p.fasta", "batch_size": 3, "device": "cpu"}
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    main(arguments(tiny, whole, **options))
    work = tmp_path / "cut.csv.changes"
    header = 17 + 64
    row = 8 * 23
    left = run_and_kill(arguments(tiny, cut, **options), work, header + 20 * row)
    assert header + 20 * row <= left < header + 570 * row
    with open(work, "ab") as file:
        file.write(b"half a row")  # what a kill within a write leaves

    predicted = []
    forward = DanceModel.forward

    def counting(self: DanceModel, input_ids: torch.Tensor, **options: bool) -> dict[str, torch.Tensor]:
        predicted.append(len(input_ids))
        return forward(self, input_ids, **options)

    monkeypatch.setattr(DanceModel, "forward", counting)
    main(arguments(tiny, cut, **options))
    assert cut.read_bytes() == whole.read_bytes()  # equal to the last digit
    done = (left - header) // row
    proteins = 2 if done < 190 else 1
    assert 570 - done <= sum(predicted) <= 570 - done + 2 + proteins  # a part of a batch again, and the wild types
    assert not work.exists()


def test_work_file_of_other_inputs(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers of other mutants or options are never taken over; a run with other batches goes on."""
    output, work = tmp_path / "s.csv", tmp_path / "s.csv.changes"

    def run(**options: object) -> pd.DataFrame:
        main(arguments(tiny, output, **options))
        return pd.read_csv(output)

    kept = {}

    def keep() -> None:
        kept["bytes"] = work.read_bytes()

    unlink = Path.unlink
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, **options: keep() if path == work else unlink(path, **options))
        first = run(sequence=WILD_TYPE, mutations="M1A,Q2A")
    wrong = bytearray(kept["bytes"])
    wrong[-8 * 46 :] = np.full(46, 7.0).tobytes()
    for options in (
        {"sequence": WILD_TYPE, "mutations": "M1A,Q2C"},
        {"sequence": "MQIFVKTLTA", "mutations": "M1A,Q2A"},
        {"sequence": WILD_TYPE, "mutations": "M1A,Q2A", "properties": "residue"},
    ):
        work.write_bytes(wrong)
        table = run(**options)
        assert "begun anew" in capsys.readouterr().err
        assert (table["psi"] != 7).all()
    for remains in (b"", b"seqdance", kept["bytes"][:81], kept["bytes"][:-50]):
        work.write_bytes(remains)
        pd.testing.assert_frame_equal(run(sequence=WILD_TYPE, mutations="M1A,Q2A", batch_size=1), first, rtol=1e-5)
    work.write_bytes(wrong)  # these are trusted
    assert (run(sequence=WILD_TYPE, mutations="M1A,Q2A")["psi"] == 7).all()


def test_two_runs_at_once(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(tmp_path / "s.csv.changes", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SystemExit):
            main(arguments(tiny, tmp_path / "s.csv", sequence="MQIF"))
    assert "another run is writing it" in capsys.readouterr().err


def test_heat_map_with_offset(tiny: str, tmp_path: Path) -> None:
    main(arguments(tiny, tmp_path / "s.csv", sequence="MQIF", all_single=True, offset=-2))
    assert pd.read_csv(tmp_path / "s.csv")["mutant"][0] == "M-1A"
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
