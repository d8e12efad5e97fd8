"""The command `seqdance dyna1 labels`: files in, tables of assignment codes out."""

from __future__ import annotations

import importlib.util
import json
import pickle
import random
import zipfile

import numpy as np
import pandas as pd
import pytest
from refusals import command_refused

from data_prepare.errors import InputWarning
from data_prepare.nmr.assignments import assignment_table, read_assignments, write_assignments
from seqdance.commands.dyna1.labels import main

MEASURED = "entry_ID,residue,assigned,R1,R2,NOE,R2_R1_pred\na,G,1,1,10,0.8,5\n"


def run(*words):
    main(list(map(str, words)))


def table(path, sequences, source="refdb"):
    rows = [(name, sequence, "A" * len(sequence)) for name, sequence in sequences.items()]
    write_assignments(path, assignment_table(rows, source))
    return path


def protein(seed):
    return "".join(random.Random(seed).choices("ACDEFGHIKLMNPQRSTVWY", k=80))


def test_refdb(tmp_path, capsys):
    rows = "".join(f"7,1ABC_,{k},{'GAVLK'[k % 5]},C,8.1,,{'' if k == 4 else 120},,,\n" for k in range(1, 11))
    (tmp_path / "r.csv").write_text(f"bmrb_id,pdb_id,seq_id,aa,ss,H,HA,N,CA,CB,C\n{rows}")
    run("refdb", "--file", tmp_path / "r.csv", "--output", tmp_path / "out/codes.csv")
    assert read_assignments(tmp_path / "out/codes.csv")["label"].tolist() == ["AAA.AAAAAA"]
    assert "entries: 1, residues: 10, evaluated: 10, positive: 1 (10.00%)" in capsys.readouterr().out
    rates = pd.read_csv(tmp_path / "out/codes_rates.csv")
    assert rates.loc[rates["kind"] == "all", ["min_coverage", "rate"]].to_numpy().tolist() == [
        [threshold, 0.1] for threshold in (0.5, 0.7, 0.8, 0.9)
    ]
    assert (tmp_path / "out/codes_rates.txt").read_text().startswith("missing amides")


@pytest.mark.skipif(importlib.util.find_spec("pynmrstar") is None, reason="pynmrstar is absent")
def test_star_writes_failures_beside_the_codes(tmp_path, capsys):
    (tmp_path / "bad.str").write_text("no star")
    output = tmp_path / "out/codes.csv"
    command_refused(main, ["star", "--file", tmp_path, "--output", output], capsys, tmp_path, "1 failed, 0 filtered")
    failures = pd.read_csv(tmp_path / "out/failures.csv")
    assert failures["kind"].tolist() == ["failed"]
    assert failures["file"].tolist() == [str(tmp_path / "bad.str")]
    assert not output.exists()


def test_relaxation(tmp_path):
    (tmp_path / "m.csv").write_text(MEASURED)
    run("relaxation", "--file", tmp_path / "m.csv", "--output", tmp_path / "o.csv")
    assert read_assignments(tmp_path / "o.csv")["label"].tolist() == ["A"]


@pytest.mark.parametrize(
    ("command", "file", "split", "told"),
    [
        ("relaxdb", "RelaxDB_133x_22jan2025.json", "relaxdb.txt", ("entries: 111,",)),
        (
            "relaxdb",
            "RelaxDB_133x_22jan2025.json",
            "relaxdb_WITH_PHOS.txt",
            ("lacks: 28132, DBHD1, DBHD2\n", "entries: 133, residues: 16255, evaluated: 13332"),
        ),
        ("cpmg", "RelaxDB_CPMG_22jan2025.json", "relaxdb-cpmg.txt", ("lacks: GRB2SH2_CPMG", "entries: 10,")),
    ],
)
def test_published_sets(tmp_path, shared, capsys, command, file, split, told):
    golden, output = shared / "golden/relaxdb", tmp_path / "o.csv"
    run(command, "--file", golden / file, "--split-list", golden / split, "--output", output)
    assert set(read_assignments(output)["source"]) == {command}
    printed = capsys.readouterr().out
    assert all(part in printed for part in told)


def mbmrb_archive(path):
    """Pickles in the published form of mBMRB_data.zip, with an entry each of RelaxDB and RelaxDB-CPMG."""
    labels = {f"{k}_0": "." + "A.vp"[k % 4] + "AxAA" for k in range(8)} | {"BPTI": "AA^bAA", "CHEY_CPMG": "ANXYAA"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, label in labels.items():
            protein = {"entry_ID": name, "sequence": "MGPGKU", "label": label}
            archive.writestr(f"mBMRB_data/{name}.pkl", pickle.dumps(protein))
    return labels


def test_mbmrb_with_published_splits_and_clusters(tmp_path, capsys):
    labels = mbmrb_archive(tmp_path / "mBMRB_data.zip")
    clusters = {"0_0": "0_0", "1_0": "0_0", "2_0": "2_0", "BPTI": "2_0"}
    rows = "".join(f"{cluster}\t{member}\n" for member, cluster in clusters.items())
    (tmp_path / "cluster_80pc.tsv").write_text(f"cluster\tentry_ID\n{rows}")
    (tmp_path / "train_80pc.txt").write_text("0_0\n1_0\n2_0\n3_0\n9_0\n")
    (tmp_path / "val.txt").write_text("4_0\n")
    (tmp_path / "dssp.csv").write_text("PDB,DSSP\n0_0,HHHHHE\n0_0,H\n1_0,CCCCCC\n")
    given = ["mbmrb", "--file", tmp_path / "mBMRB_data.zip"]
    clustered = [*given, "--clusters", tmp_path / "cluster_80pc.tsv", "--dssp", tmp_path / "dssp.csv"]
    run(*clustered, "--split-list", tmp_path / "train_80pc.txt", "--output", tmp_path / "train.csv")
    assert "lacks: 9_0" in capsys.readouterr().out
    found = read_assignments(tmp_path / "train.csv")
    expected = [[f"{k}_0", "MGPGKX", labels[f"{k}_0"], "mbmrb"] for k in range(4)]
    assert found[["entry_ID", "sequence", "label", "source"]].to_numpy().tolist() == expected
    assert found["cluster"].tolist() == ["0_0", "0_0", "2_0", ""]  # as published
    assert found["dssp"].tolist() == ["HHHHHE", "CCCCCC", "", ""]
    run(*given, "--split-list", tmp_path / "val.txt", "--output", tmp_path / "val.csv")
    assert read_assignments(tmp_path / "val.csv")["entry_ID"].tolist() == ["4_0"]
    with pytest.warns(InputWarning, match="2 entries of other sets"):
        run(*given, "--output", tmp_path / "all.csv")
    assert len(read_assignments(tmp_path / "all.csv")) == 8
    (tmp_path / "cluster_80pc.tsv").write_text("cluster\tentry_ID\n7\t7\n")
    words = [*clustered, "--split-list", tmp_path / "val.txt", "--output", tmp_path / "o.csv"]
    command_refused(main, words, capsys, tmp_path / "dssp.csv")  # none of its entries
    command_refused(main, [*words[:5], *words[7:]], capsys, tmp_path / "cluster_80pc.tsv")


def test_field_strengths_are_chosen(tmp_path, shared, capsys):
    words = ["relaxdb", "--file", shared / "golden/relaxdb/RelaxDB_133x_22jan2025.json", "--output", tmp_path / "o.csv"]
    run(*words, "--field-strength", "900", "950")
    assert read_assignments(tmp_path / "o.csv")["field_strength"].tolist() == ["950", "900", "900"]
    command_refused(
        main, [*words, "--field-strength", "60"], capsys, "400, 500, 600, 700, 750, 800, 850, 900, 950 (MHz)"
    )


def test_split(tmp_path, monkeypatch, capsys):
    """The pairs are equal sequences, for which MMseqs2 is not needed."""
    monkeypatch.setattr("data_prepare.nmr.splits.run_mmseqs", lambda *_: [])
    sequences = {str(15000 + k): protein(k) for k in range(20)}
    tables = [table(tmp_path / f"{part}.csv", dict(list(sequences.items())[part::2])) for part in (0, 1)]
    tests = table(tmp_path / "t.csv", {"15003": protein(99), "T": sequences["15004"]}, "relaxdb")
    output = tmp_path / "split"
    (tmp_path / "c.tsv").write_text("15000\t15000\n15000\t15010\n")
    run("split", "--table", *tables, "--against", tests, "--clusters", tmp_path / "c.tsv", "--output", output)
    train, validation = (read_assignments(output / f"{part}.csv") for part in ("train", "validation"))
    assert (len(train), len(validation)) == (16, 2)
    assert sorted([*train["entry_ID"], *validation["entry_ID"]]) == sorted(sequences.keys() - {"15003", "15004"})
    clusters = pd.concat([train, validation]).set_index("entry_ID")["cluster"]
    assert {name: cluster for name, cluster in clusters.items() if name != cluster} == {"15010": "15000"}
    removed = pd.read_csv(output / "removed.csv", dtype={"entry_ID": str})
    removed = removed.sort_values("entry_ID", ignore_index=True)
    assert removed[["entry_ID", "test_entry"]].to_numpy().tolist() == [["15003", "15003"], ["15004", "T"]]
    assert np.isnan(removed["identity"][0])
    assert "entries removed, same BMRB id" in capsys.readouterr().out
    words = ["split", "--output", output, "--table"]
    command_refused(main, [*words, tables[0], tables[0]], capsys, "entry 15000")
    command_refused(main, [*words, tests, "--against", tests], capsys, tests)  # nothing is left


@pytest.mark.parametrize(
    "words",
    [
        ["split", "--min-identity", "30"],
        ["split", "--min-identity", "nan"],
        ["split", "--seed", "-1"],
        ["split", "--validation-fraction", "1"],
        ["split", "--table"],
        ["refdb", "--min-coverage", "80"],
    ],
)
def test_options_are_checked_before_any_file_is_read(tmp_path, capsys, words):
    command, *words = words
    given = ["--table", tmp_path / "absent.csv"] if command == "split" else []
    command_refused(main, [command, *given, "--output", tmp_path / "o", *words], capsys, words[0])


def test_a_split_list_that_fits_nothing(tmp_path, capsys):
    (tmp_path / "r.json").write_text(json.dumps({"entry_ID": {"0": "a"}, "sequence": {"0": "G"}, "label": {"0": "A"}}))
    (tmp_path / "l.txt").write_text("b\n")
    words = ["--file", tmp_path / "r.json", "--split-list", tmp_path / "l.txt", "--output", tmp_path / "o"]
    command_refused(main, ["relaxdb", *words], capsys, tmp_path / "l.txt", tmp_path / "r.json")
    assert not (tmp_path / "o").exists()


def test_outputs_overwrite_no_input(tmp_path, capsys):
    own = tmp_path / "o" / "train.csv"
    table(own, {"a": "GG", "b": "KK"})
    (tmp_path / "x.str").write_text("no star")
    before = {path: path.read_bytes() for path in (own, tmp_path / "x.str")}
    for words in (
        ["split", "--table", own, "--output", tmp_path / "o"],
        ["star", "--file", tmp_path, "--output", tmp_path / "failures.csv"],  # a name of its own second file
        ["star", "--file", tmp_path, "--output", tmp_path / "x.str"],
        *([command, "--file", own, "--output", own] for command in ("refdb", "relaxdb", "cpmg", "relaxation")),
    ):
        command_refused(main, words, capsys, words[-1], "--output")
    assert {path: path.read_bytes() for path in before} == before
    command_refused(main, ["refdb", "--file", tmp_path / "absent", "--output", tmp_path], capsys, "--output")
