"""Training and validation apart from each other and from the tests, and the command that makes labels."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil

import numpy as np
import pandas as pd
import pytest

from data_prepare.errors import InputError
from data_prepare.nmr import splits
from data_prepare.nmr.assignments import assignment_table, read_assignments, write_assignments
from data_prepare.nmr.make_labels import main
from data_prepare.nmr.splits import (
    Hit,
    bmrb_id,
    join_tests,
    similar_entries,
    similar_pairs,
    train_and_validation,
    with_clusters,
    without_tests,
)

needs_mmseqs = pytest.mark.skipif(shutil.which("mmseqs") is None, reason="mmseqs is not on the PATH")
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


def protein(length, seed):
    return "".join(random.Random(seed).choices(AMINO_ACIDS, k=length))


def relative(sequence, identity, seed):
    """Sequence in which about a share of 1 - `identity` of the residues is another."""
    rng = random.Random(seed)
    return "".join(letter if rng.random() < identity else rng.choice(AMINO_ACIDS) for letter in sequence)


def labels(sequences, source="refdb"):
    rows = [(name, sequence, "A" * len(sequence)) for name, sequence in sequences.items()]
    return assignment_table(rows, source)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("15000", "15000"),
        ("15000_2", "15000"),
        ("bmr15000", "15000"),
        ("ACBP", None),
        ("15000_A", None),
        ("1_2_3", None),
    ],
)
def test_bmrb_id(name, expected):
    assert bmrb_id(name) == expected


@needs_mmseqs
def test_similar_entries():
    tests = {"long": protein(150, 1), "short one|x": protein(60, 2), "peptide": protein(10, 10)}
    sequences = {
        "same": tests["long"],
        "tag": "MHHHHHH" + tests["short one|x"],
        "piece": tests["short one|x"][5:17],
        "half": relative(tests["long"], 0.45, 3),
        "short": relative(tests["short one|x"], 0.5, 4),
        "domain": protein(200, 5) + relative(tests["short one|x"], 0.6, 6),
        "helix": protein(100, 7) + tests["long"][:40] + protein(100, 8),
        "other": protein(150, 9),
        "fusion": protein(60, 11) + tests["peptide"] + protein(60, 12),
        "tiny": "GG",
    }
    similar = similar_entries(sequences, tests)
    assert similar.keys() == {"same", "tag", "piece", "half", "short", "domain", "fusion"}
    assert {name for name, hit in similar.items() if hit.entry == "long"} == {"same", "half"}
    assert similar["tag"].identity == similar["piece"].identity == 1
    assert 0.35 < similar["half"].identity < 0.65


@needs_mmseqs
def test_too_short_for_mmseqs():
    assert similar_entries({"a": "GG", "b": "AC"}, {"t": "AC"}).keys() == {"b"}


def test_mmseqs_is_named_when_absent(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="mmseqs is not on the PATH"):
        similar_entries({"a": "GG"}, {"t": "AC"})


def test_without_tests(monkeypatch):
    asked = []

    def stand_in(sequences, tests, min_identity, threads):
        asked.append((list(sequences), list(tests), min_identity, threads))
        return {"15000": Hit("T", 0.8), "15002": Hit("T", 0.7)}

    monkeypatch.setattr(splits, "similar_entries", stand_in)
    table = labels({name: protein(30, k) for k, name in enumerate(["15000", "15001_1", "15002", "ACBP"])})
    tests = labels({name: protein(30, 9) for name in ["15001", "T", "15002"]})
    kept, removed = without_tests(table, tests, 0.7, threads=2)
    assert asked == [(["15000", "15001_1", "15002", "ACBP"], ["15001", "T", "15002"], 0.7, 2)]
    assert kept["entry_ID"].tolist() == ["ACBP"]
    assert removed.fillna(-1).to_numpy().tolist() == [
        ["15000", "T", 0.8, "identity of at least 70%"],
        ["15001_1", "15001", -1, "same BMRB id"],
        ["15002", "15002", 0.7, "same BMRB id"],
    ]


def test_clusters_of_mmseqs_and_of_a_file(tmp_path, monkeypatch):
    table = labels({"a": "GG", "b": "GA", "c": "GK", "d": "GG"})
    (tmp_path / "c.tsv").write_text("x\tc\nx\tb\n")
    assert with_clusters(table, clusters=tmp_path / "c.tsv")["cluster"].tolist() == ["a", "b", "b", "a"]
    asked = []

    def stand_in(sequences, others, min_identity, threads):
        asked.append((sequences, others, min_identity, threads))
        return [("a", "a", 1.0), ("d", "b", 0.5), ("c", "d", 0.4)]

    monkeypatch.setattr(splits, "similar_pairs", stand_in)
    assert with_clusters(table, 0.4, threads=3)["cluster"].tolist() == ["a", "b", "b", "b"]
    sequences = {"a": "GG", "b": "GA", "c": "GK", "d": "GG"}
    assert asked == [(sequences, sequences, 0.4, 3)]


@needs_mmseqs
def test_no_entry_is_similar_to_one_of_another_cluster():
    parents = {f"parent{k}": protein(140, k) for k in range(4)}
    sequences = parents | {f"piece{k}": parents[f"parent{k}"][:75] for k in range(4)}
    sequences |= {f"end{k}": relative(parents[f"parent{k}"][60:], 0.7, k) for k in range(4)}
    found = with_clusters(labels(sequences)).set_index("entry_ID")["cluster"]
    assert found.groupby(found).size().tolist() == [3] * 4
    assert all(found[f"piece{k}"] == found[f"parent{k}"] == found[f"end{k}"] for k in range(4))


def test_train_and_validation_keep_clusters_whole():
    table = labels({f"e{k}": protein(20, k) for k in range(60)})
    table["cluster"] = ["" if k % 3 == 0 else f"c{k // 6}" for k in range(60)]
    train, validation = train_and_validation(table, 0.2, seed=1)
    assert sorted([*train["entry_ID"], *validation["entry_ID"]]) == sorted(table["entry_ID"])
    assert set(train["cluster"]) & set(validation["cluster"]) == {""}  # an empty one is a cluster of its own
    assert 9 <= len(validation) <= 15
    again = train_and_validation(table.sample(frac=1, random_state=0), 0.2, seed=1)[1]
    assert set(again["entry_ID"]) == set(validation["entry_ID"])
    assert set(train_and_validation(table, 0.2, seed=2)[1]["entry_ID"]) != set(validation["entry_ID"])


def test_nothing_to_split():
    table = labels({"a": "GG", "b": "GA"})
    with pytest.raises(InputError, match="all entries are one cluster"):
        train_and_validation(table.assign(cluster="c"))
    with pytest.raises(InputError, match="no entry"):
        train_and_validation(table[:0])


def test_a_test_name_with_two_sequences_is_refused():
    one, same, other = labels({"TT": "GG", "A": "GG"}), labels({"TT": "GG", "B": "GA"}), labels({"TT": "GK"})
    assert join_tests({"T1": one, "T2": same})["entry_ID"].tolist() == ["TT", "A", "B"]
    with pytest.raises(InputError, match="entry TT of T2 has another sequence in T1; rename one"):
        join_tests({"T1": one, "T2": other})
    with pytest.raises(InputError, match="entry TT of the test entries has another sequence"):
        without_tests(one, pd.concat([one, other]))


@pytest.mark.parametrize("identity", [30, 0, -0.1, float("nan")])
def test_identity_is_a_share(identity):
    with pytest.raises(InputError, match=r"min-identity .*: expected a share above 0, at most 1"):
        similar_pairs({"a": "GG"}, {"t": "AC"}, identity)


# ---- the command


def refused(capsys, *args):
    """The one line with which the command ends."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, args)))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--min-identity", "30", "min-identity 30: expected"),
        ("--seed", "-1", "seed -1: expected 0 or more"),
        ("--validation-share", "1", "validation-share 1: expected a share between 0 and 1"),
    ],
)
def test_settings_are_checked_before_work_begins(tmp_path, capsys, option, value, reason):
    assert reason in refused(capsys, "split", "--table", tmp_path / "absent.csv", "--output", tmp_path, option, value)


def test_split_with_a_test_name_of_two_sequences(tmp_path, capsys):
    for name, sequence in (("T1", "GGGG"), ("T2", "KKKK")):
        write_assignments(tmp_path / name, labels({"TT": sequence}, "relaxdb"))
    write_assignments(tmp_path / "a.csv", labels({"leaks": "KKKK", "b": "AAAA"}))
    tests = ["--against", tmp_path / "T1", tmp_path / "T2"]
    told = refused(capsys, "split", "--table", tmp_path / "a.csv", *tests, "--output", tmp_path / "o")
    assert f"entry TT of {tmp_path / 'T2'} has another sequence in {tmp_path / 'T1'}; rename one" in told


@needs_mmseqs
def test_split_of_which_nothing_is_left(tmp_path, capsys):
    for name in ("a.csv", "t.csv"):
        write_assignments(tmp_path / name, labels({"a": "GGGG", "b": "KKKK"}))
    paths = ["--table", tmp_path / "a.csv", "--against", tmp_path / "t.csv", "--output", tmp_path / "o"]
    assert "a.csv: all entries are test entries or similar to them" in refused(capsys, "split", *paths)


def test_outputs_overwrite_no_input(tmp_path, capsys):
    table = tmp_path / "o" / "train.csv"
    write_assignments(table, labels({"a": "GG", "b": "KK"}))
    before = table.read_bytes()
    assert "would overwrite the input" in refused(capsys, "split", "--table", table, "--output", tmp_path / "o")
    (tmp_path / "x.str").write_text("no star")
    failures = ["star", "--file", tmp_path, "--output", tmp_path / "failures.csv"]
    assert "another output of this command has this name" in refused(capsys, *failures)
    inside = ["star", "--file", tmp_path, "--output", tmp_path / "x.str"]
    assert "would overwrite a file of the input folder" in refused(capsys, *inside)
    for command in ("refdb", "relaxdb", "cpmg", "relaxation"):
        assert "would overwrite the input" in refused(capsys, command, "--file", table, "--output", table)
    assert table.read_bytes() == before
    assert (tmp_path / "x.str").read_text() == "no star"


def test_outputs_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for command in ("refdb", "relaxdb", "cpmg", "star", "relaxation"):
        args = [command, "--file", tmp_path / "absent", "--output"]
        assert "is a folder" in refused(capsys, *args, tmp_path)
        assert "is a folder" in refused(capsys, *args, ".")
        assert f"{tmp_path / 'file'} is a file" in refused(capsys, *args, tmp_path / "file" / "deep" / "o.csv")
    args = ["split", "--table", tmp_path / "absent", "--output", tmp_path / "file"]
    assert "is a file" in refused(capsys, *args)


def test_relaxdb_and_cpmg(tmp_path, shared, capsys):
    golden = shared / "golden/relaxdb"
    for command, file, split in [
        ("relaxdb", "RelaxDB_133x_22jan2025.json", "relaxdb_WITH_PHOS.txt"),
        ("cpmg", "RelaxDB_CPMG_22jan2025.json", "relaxdb-cpmg.txt"),
    ]:
        output = tmp_path / f"{command}.csv"
        main([command, "--file", str(golden / file), "--split-list", str(golden / split), "--output", str(output)])
        assert set(read_assignments(output)["source"]) == {command}
    told = capsys.readouterr().out
    assert "3 entries are not in" in told
    assert "28132, DBHD1, DBHD2" in told
    assert "133 entries, 16255 residues, 13332 evaluated, 1657 positive (12.43%)" in told
    assert "GRB2SH2_CPMG" in told


def test_a_split_list_that_fits_nothing(tmp_path, capsys):
    (tmp_path / "r.json").write_text(json.dumps({"entry_ID": {"0": "a"}, "sequence": {"0": "G"}, "label": {"0": "A"}}))
    (tmp_path / "l.txt").write_text("b\n")
    args = [
        "--file",
        str(tmp_path / "r.json"),
        "--split-list",
        str(tmp_path / "l.txt"),
        "--output",
        str(tmp_path / "o"),
    ]
    with pytest.raises(SystemExit) as stop:
        main(["relaxdb", *args])
    assert stop.value.code == 2
    assert "none of its entries" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_refdb(tmp_path, capsys):
    rows = "".join(f"7,1ABC_,{k},{'GAVLK'[k % 5]},C,8.1,,{'' if k == 4 else 120},,,\n" for k in range(1, 11))
    (tmp_path / "r.csv").write_text(f"bmrb_id,pdb_id,seq_id,aa,ss,H,HA,N,CA,CB,C\n{rows}")
    main(["refdb", "--file", str(tmp_path / "r.csv"), "--output", str(tmp_path / "out/labels.csv")])
    assert read_assignments(tmp_path / "out/labels.csv")["label"].tolist() == ["AAA.AAAAAA"]
    assert "1 entries, 10 residues, 10 evaluated, 1 positive (10.00%)" in capsys.readouterr().out
    rates = pd.read_csv(tmp_path / "out/labels_rates.csv")
    assert rates.loc[rates["kind"] == "all", "rate"].tolist() == [0.1] * 4
    assert (tmp_path / "out/labels_rates.txt").read_text().startswith("missing amides")


def test_star_writes_failures_beside_the_labels(tmp_path, capsys):
    if importlib.util.find_spec("pynmrstar") is None:
        pytest.skip("pynmrstar is absent")
    (tmp_path / "bad.str").write_text("no star")
    with pytest.raises(SystemExit):
        main(["star", "--file", str(tmp_path), "--output", str(tmp_path / "out/labels.csv")])
    assert "no labels; 1 failed, 0 filtered" in capsys.readouterr().err
    failures = pd.read_csv(tmp_path / "out/failures.csv")
    assert failures[["kind"]].to_numpy().tolist() == [["failed"]]
    assert "not a readable NMR-STAR file" in failures["reason"][0]


def test_relaxation(tmp_path, capsys):
    (tmp_path / "m.csv").write_text("entry_ID,residue,assigned,R1,R2,NOE,R2_R1_pred\na,G,1,1,10,0.8,5\n")
    main(["relaxation", "--file", str(tmp_path / "m.csv"), "--output", str(tmp_path / "o.csv")])
    assert read_assignments(tmp_path / "o.csv")["label"].tolist() == ["A"]


@needs_mmseqs
def test_split(tmp_path, capsys):
    sequences = {str(15000 + k): protein(80, k) for k in range(20)}
    write_assignments(tmp_path / "a.csv", labels(dict(list(sequences.items())[:10])))
    write_assignments(tmp_path / "b.csv", labels(dict(list(sequences.items())[10:])))
    write_assignments(tmp_path / "t.csv", labels({"15003": protein(80, 99), "T": sequences["15004"]}, "relaxdb"))
    tables, output = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], tmp_path / "split"
    (tmp_path / "c.tsv").write_text("15000\t15000\n15000\t15010\n")
    args = ["--against", str(tmp_path / "t.csv"), "--clusters", str(tmp_path / "c.tsv"), "--output", str(output)]
    main(["split", "--table", *tables, *args])
    train, validation = (read_assignments(output / f"{part}.csv") for part in ("train", "validation"))
    assert (len(train), len(validation)) == (16, 2)
    assert sorted([*train["entry_ID"], *validation["entry_ID"]]) == sorted(sequences.keys() - {"15003", "15004"})
    clusters = pd.concat([train, validation]).set_index("entry_ID")["cluster"]
    assert {name: cluster for name, cluster in clusters.items() if name != cluster} == {"15010": "15000"}
    removed = pd.read_csv(output / "removed.csv", dtype={"entry_ID": str})
    assert removed[["entry_ID", "test_entry"]].to_numpy().tolist() == [["15003", "15003"], ["15004", "T"]]
    assert np.isnan(removed["identity"][0])
    assert "removed: 1 entries, same BMRB id" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["split", "--table", tables[0], tables[0], "--output", str(output)])
    assert "entry 15000 is in two tables" in capsys.readouterr().err
