"""The command `seqdance score`: its tables, its errors, and that an interrupted run resumes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from interruptions import kill_at_work
from refusals import command_refused

from data_prepare.errors import InputError, InputWarning
from data_prepare.properties import PROPERTIES, RESIDUE_PROPERTIES
from model.config import ModelConfig
from model.mutations.score import SCORES, score_mutations
from model.mutations.substitution import all_single_mutants
from model.network.dance import DanceModel, load_model
from seqdance.commands.score import main

WILD_TYPE = "MQIFVKTLTG"


def arguments(model: Path | str, output: Path, **options: object) -> list[str]:
    words = ["--model", str(model), "--output", str(output)]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def check_against_api(tiny_model_folder: Path, table: pd.DataFrame, wild_type: str, properties: str = "all") -> None:
    """The rows of one protein are those of `score_mutations`."""
    expected = score_mutations(
        load_model(tiny_model_folder, "cpu"), wild_type, table["mutant"].tolist(), properties=properties
    )
    columns = [*SCORES, *(PROPERTIES if properties == "all" else RESIDUE_PROPERTIES)]
    np.testing.assert_allclose(table[columns], expected[columns], rtol=0, atol=1e-5)


def test_all_single_mutants_of_one_protein(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(tiny_model_folder, tmp_path / "s.csv", sequence=WILD_TYPE))
    assert capsys.readouterr().out.split() == [str(tmp_path / "s.csv"), str(tmp_path / "s.png")]
    table = pd.read_csv(tmp_path / "s.csv")
    where = ["chain", "number", "position"]
    assert list(table.columns) == ["protein", "mutant", *where, "score", "damage", *SCORES, *PROPERTIES, "model"]
    assert table.loc[19, ["mutant", *where]].tolist() == ["Q2A", "A", 2, 2]
    assert set(table["protein"]) == {"sequence"}
    assert len(table) == 190
    check_against_api(tiny_model_folder, table, WILD_TYPE)
    assert table["damage"].tolist() == pytest.approx((table["score"].rank() / 190).tolist())  # the wild type is below
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(tmp_path)) == [".s.csv.made_of", "s.csv", "s.png"]  # nothing is left of the finished parts
    main(arguments(tiny_model_folder, tmp_path / "t.csv.gz", sequence="MQIF", offset=-2))
    assert pd.read_csv(tmp_path / "t.csv.gz")["mutant"][0] == "M-1A"
    assert (tmp_path / "t.png").is_file()


def test_several_proteins(tiny_model_folder: Path, tmp_path: Path) -> None:
    chains = {"a": "MQIF<eos><cls>VKTL", "b": "ACDEFGHIKLMN", "c": "WW"}
    fasta = tmp_path / "p.fasta"
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in chains.items()))
    main(
        arguments(
            tiny_model_folder, tmp_path / "s.csv.gz", fasta=fasta, properties="residue", sequences=True, batch_size=5
        )
    )
    table = pd.read_csv(tmp_path / "s.csv.gz")
    assert list(table.columns[:6]) == ["protein", "mutant", "chain", "number", "position", "sequence"]
    assert list(table.columns[-11:]) == [*RESIDUE_PROPERTIES, "model"]
    assert table["protein"].tolist() == ["a"] * 152 + ["b"] * 228 + ["c"] * 38
    for protein in "abc":
        rows = table[table["protein"] == protein]
        assert (rows["sequence"] != chains[protein]).all()
        check_against_api(tiny_model_folder, rows, chains[protein], "residue")
    assert sorted(os.listdir(tmp_path)) == [".s.csv.gz.made_of", "p.fasta", "s.csv.gz"]


def test_mutants_of_a_table(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.fasta").write_text(">a\nMQIF\n>b\nACDE\n")
    (tmp_path / "m.csv").write_text("protein,mutant\nb,D13W\na,Q12A:F14A\nb,wt\na,M11C\n")
    main(
        arguments(
            tiny_model_folder, tmp_path / "s.csv", fasta=tmp_path / "p.fasta", mutants=tmp_path / "m.csv", offset=10
        )
    )
    table = pd.read_csv(tmp_path / "s.csv")
    assert table["mutant"].tolist() == ["Q12A:F14A", "M11C", "D13W", "wt"]
    assert table["damage"].tolist()[2:] == [1, 0]
    assert sorted(table["damage"][:2]) == [0.5, 1]
    assert (table.loc[3, list(PROPERTIES)] == 0).all()
    assert not (tmp_path / "s.png").exists()


def test_a_finished_run_is_recognized(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It predicts nothing, unless inputs or options that matter changed, or an output was changed or removed."""
    predicted, forward = [], DanceModel.forward
    monkeypatch.setattr(DanceModel, "forward", lambda *a, **k: (predicted.append(1), forward(*a, **k))[1])
    (tmp_path / "p.fasta").write_text(">a\nMQIF\n")
    (tmp_path / "m.csv").write_text("mutant\nM1A\nQ2A\n")

    def predicts(**options: object) -> bool:
        predicted.clear()
        main(arguments(tiny_model_folder, tmp_path / "s.csv", fasta=tmp_path / "p.fasta", **options))
        return bool(predicted)

    assert [predicts(), predicts(), predicts(batch_size=2)] == [True, False, False]
    (tmp_path / "s.png").unlink()
    assert [predicts(), predicts()] == [True, False]
    (tmp_path / "s.csv").write_text("edited")
    assert [predicts(), predicts(offset=1), predicts(offset=1)] == [True, True, False]
    assert [predicts(mutants=tmp_path / "m.csv"), predicts(mutants=tmp_path / "m.csv")] == [True, False]
    (tmp_path / "m.csv").write_text("mutant\nM1A\nQ2C\n")
    assert [predicts(mutants=tmp_path / "m.csv"), predicts(mutants=tmp_path / "m.csv")] == [True, False]
    assert pd.read_csv(tmp_path / "s.csv")["mutant"].tolist() == ["M1A", "Q2C"]
    (tmp_path / "p.fasta").write_text(">a\nMQI\n>b\nMQI\n")
    assert [predicts(), predicts()] == [True, False]
    (tmp_path / "p.fasta").write_text(">a\nMQI\n>b\nMQF\n")
    assert [predicts(), predicts()] == [True, False]


def test_on_a_structure(tiny_model_folder: Path, tmp_path: Path, examples: Path, capsys) -> None:
    """Mutations have its numbers unless told otherwise; a copy with the mean damage, and scripts that show it."""
    structure, copy = examples / "structures" / "2gu3_A.pdb.gz", tmp_path / "on.pdb"
    given = {"pdb": structure, "properties": "residue", "write_pdb": copy}
    main(arguments(tiny_model_folder, tmp_path / "s.csv", mutations="K34A,K34G,E35G:E36K", **given))
    out, err = capsys.readouterr()
    assert out.split() == [str(tmp_path / name) for name in ("s.csv", "on.pdb", "on.pml", "on.cxc")]
    assert "--numbering sequence" in err
    table = pd.read_csv(tmp_path / "s.csv")
    assert table["mutant"].tolist() == ["K34A", "K34G", "E35G:E36K"]
    assert table["number"].tolist() == ["34", "34", "35:36"]
    assert table["position"].tolist() == ["1", "1", "2:3"]
    values = [float(line[60:66]) for line in copy.read_text().splitlines() if line[12:16] == " CA "]
    assert values[0] == pytest.approx(table["damage"][:2].mean(), abs=0.0051)
    assert set(values[1:]) == {-1}  # without single mutants
    main(arguments(tiny_model_folder, tmp_path / "t.csv", mutations="K1A,K1G,E2G:E3K", numbering="sequence", **given))
    assert "--numbering" not in capsys.readouterr().err
    other = pd.read_csv(tmp_path / "t.csv")
    assert other["mutant"].tolist() == ["K1A", "K1G", "E2G:E3K"]
    pd.testing.assert_frame_equal(other.drop(columns="mutant"), table.drop(columns="mutant"))
    shifted = {"pdb": structure, "mutations": "K3A,E4G,E5K"}
    named = "all of them fit with --numbering sequence --offset 2"
    command_refused(main, arguments(tiny_model_folder, tmp_path / "u.csv", **shifted), capsys, "K3A", named)
    by_position = {"pdb": structure, "mutations": "K1A,E2G,E3K"}
    refusal = command_refused(main, arguments(tiny_model_folder, tmp_path / "u.csv", **by_position), capsys, "K1A")
    assert refusal.endswith("all of them fit with --numbering sequence")
    assert refusal.count("--numbering") == 1
    more = {"pdb": structure, "mutations": "K1A"}
    command_refused(main, arguments(tiny_model_folder, tmp_path / "u.csv", **more), capsys, "K1A", "34 to 161")


def test_notes(tiny_model_folder: Path, tmp_path: Path, examples: Path, capsys) -> None:
    def notes(**options: object) -> str:
        main(arguments(tiny_model_folder, tmp_path / "s.csv", properties="residue", **options))
        return capsys.readouterr().err

    few, several = "among themselves; leave out --mutations to score all", "are read as one complex"
    assert f"damage ranks these 2 mutants {few}" in notes(sequence="MQIF", mutations="M1A,Q2A,wt")
    assert "damage ranks this mutant only;" in notes(sequence="MQIF", mutations="M1A")
    assert "damage ranks" not in notes(sequence="M")
    assert "damage ranks" not in notes(sequence="MQ", mutations=",".join(all_single_mutants("MQ")[:20]))
    structure = examples / "structures" / "1hvr_AB.pdb.gz"
    assert f"{structure}: chains A, B {several}; --chain A for one" in notes(pdb=structure, mutations="PA1A")
    one_chain = notes(pdb=structure, mutations="P1A", chain="A")
    assert several not in one_chain
    assert "--numbering" not in one_chain  # numbered from 1


MEASURED = {
    "megascale": "name,aa_seq,mut_type,WT_name,ddG_ML\n,WQIF,M1W,p,1.0\n,MQIF,wt,p,0\n,ACD,wt,q,0\n,ACW,D3W,q,-\n"
    ",AAD,C2A,q,0.5\n,MQAA,I3A:F4A,p,2\n",
    "proteingym": "mutant,mutated_sequence,DMS_score\nM1W,WQIF,1.0\nI3A:F4A,MQAA,2.0\n",
}


@pytest.mark.parametrize(
    ("form", "more"), [("megascale", {}), ("proteingym", {}), ("proteingym", {"sequence": "MQIF"})]
)
def test_measured_forms(tiny_model_folder: Path, tmp_path: Path, form: str, more: dict) -> None:
    (tmp_path / f"{form}.csv").write_text(MEASURED[form])
    main(arguments(tiny_model_folder, tmp_path / "s.csv", **{form: tmp_path / f"{form}.csv"}, **more))
    table = pd.read_csv(tmp_path / "s.csv").set_index("protein")
    rows = table.loc["p" if form == "megascale" else "proteingym"]
    assert rows["mutant"].tolist() == ["M1W", "I3A:F4A"]
    check_against_api(tiny_model_folder, rows, "MQIF")


def test_proteingym_as_downloaded(tiny_model_folder: Path, tmp_path: Path, shared: Path) -> None:
    """A folder with a clinical file, which has no DMS_score, and one of insertions and deletions, passed over."""
    folder = tmp_path / "gym"
    folder.mkdir()
    (folder / "NP_1.2.csv").write_text(
        "protein,protein_sequence,mutant,mutated_sequence,DMS_bin_score\nNP_1.2,MQIF,M1W,WQIF,Benign\n"
    )
    indels = shared / "cases/indel_message/A4_HUMAN_Seuma_2022_indels.csv"
    (folder / indels.name).write_bytes(indels.read_bytes())
    with pytest.warns(InputWarning, match=r"A4_HUMAN_Seuma_2022_indels.csv.*insertions and deletions"):
        main(arguments(tiny_model_folder, tmp_path / "s.csv", proteingym=folder))
    table = pd.read_csv(tmp_path / "s.csv")
    assert table[["protein", "mutant"]].to_numpy().tolist() == [["NP_1.2", "M1W"]]
    with pytest.raises(InputError, match="insertions and deletions"):
        main([*arguments(tiny_model_folder, tmp_path / "x.csv", proteingym=indels), "--debug"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, ["--sequence"]),
        ({"sequence": "MQIF", "mutations": "M1A", "mutants": "x.csv"}, ["--mutants", "--mutations"]),
        ({"sequence": "MQIF", "mutations": "M1A,Q2C,M1A"}, ["sequence", "M1A", "1 and 3"]),
        ({"sequence": "MQIF", "mutants": "none.csv"}, ["none.csv"]),
        ({"fasta": "two.fasta", "mutations": "M1A"}, ["mutations", 2]),
        ({"megascale": "m.csv", "sequence": "MQIF"}, ["--megascale", "--sequence"]),
        ({"megascale": "m.csv", "offset": 3}, ["--offset 3", "m.csv"]),
        ({"proteingym": "p.csv", "sequence": "MQIW"}, ["p.csv", "wild type"]),
        ({"sequence": "MQIF", "batch_size": 0}, ["--batch-size"]),
        ({"sequence": "MQIF", "numbering": "structure"}, ["--numbering structure", "--pdb"]),
        ({"pdb": "x.pdb", "offset": 3}, ["--offset 3", "--numbering sequence"]),
        ({"sequence": "MQIF", "write_pdb": "y.pdb"}, ["--write-pdb", "--pdb"]),
        ({"pdb": "x.pdb", "write_pdb": "y.cif"}, ["y.cif", "x.pdb"]),
        ({"sequence": "MQIF", "output": "s.png"}, ["s.png", ".csv"]),
        ({"sequence": "MQIF", "output": "s.parquet"}, ["s.parquet", "pyarrow"]),
        ({"sequence": "MQIF", "output": "folder.csv"}, ["folder.csv", "folder"]),
    ],
)
def test_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch, options: dict, named: list) -> None:
    """In one line, and before the model is loaded: there is none here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    Path("two.fasta").write_text(">a\nMQIF\n>b\nACDE\n")
    Path("m.csv").write_text(MEASURED["megascale"])
    Path("p.csv").write_text(MEASURED["proteingym"])
    Path("folder.csv").mkdir()
    before = sorted(os.listdir())
    command_refused(main, arguments("no model", **{"output": Path("s.csv"), **options}), capsys, *named)
    assert sorted(os.listdir()) == before


def test_a_network_that_is_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = DanceModel(ModelConfig(hidden=16, layers=1, heads=2, feed_forward=16))
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    command_refused(
        main, arguments(tmp_path / "nan", tmp_path / "s.csv", sequence="MQIF"), capsys, "sequence", "weights"
    )
    assert os.listdir(tmp_path) == ["nan"]


@pytest.mark.slow
def test_a_killed_run_resumes(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at any moment: each of 24 proteins is a part, which is kept whole or made again; equal to the digit."""
    predicted, forward = [], DanceModel.forward

    def counted(self: DanceModel, input_ids: torch.Tensor, **more: bool) -> dict[str, torch.Tensor]:
        predicted.append(len(input_ids))
        return forward(self, input_ids, **more)

    monkeypatch.setattr(DanceModel, "forward", counted)
    letters = np.random.default_rng(0).choice(list("ACDEFGHIKL"), (24, 6))
    (tmp_path / "p.fasta").write_text("".join(f">p{k}\n{''.join(own)}\n" for k, own in enumerate(letters)))
    options = {"fasta": tmp_path / "p.fasta", "batch_size": 20, "device": "cpu"}
    cut = arguments(tiny_model_folder, tmp_path / "cut.csv", **options)
    kept = kill_at_work(["score", *cut], tmp_path / ".cut.csv.parts", 3)
    assert 3 <= len(kept) < 24
    assert not (tmp_path / "cut.csv").exists()
    main(cut)
    assert sum(predicted) == (24 - len(kept)) * (114 + 1)  # the mutants and the wild type of each other protein
    main(arguments(tiny_model_folder, tmp_path / "whole.csv", **options))
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not (tmp_path / ".cut.csv.parts").exists()
