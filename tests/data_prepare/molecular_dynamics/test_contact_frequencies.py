"""Frequencies of residue pairs from contact files."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import command_refused

from data_prepare.molecular_dynamics import get_contact_frequencies, get_dynamic_contacts

HEADER = "# total_frames:{} beg:{} end:{} stride:{} interaction_types:all\n# Columns: frame, ...\n"
FIRST = HEADER.format(4, 10, 16, 2) + (
    "10\tvdw\tA:ALA:1:CB\tB:SER:2A:OG\n"
    "10\tvdw\tB:SER:2A:CB\tA:ALA:1:CA\t3.210\n"
    "10\thbls\tA:ALA:1:N\tX:LIG:9:O1\n"
    "12\twb\tA:ALA:1:N\tA:GLY:5:O\tW:HOH:7:O\t4.000\n"
    "16\thbss\tA:ALA:1:CB\tB:SER:2A:OG\n"
)
SECOND = HEADER.format(2, 0, 1, 1) + "1\thbbb\tA:ALA:1:N\tB:SER:2A:O\n"


@pytest.fixture
def run(tmp_path):
    """Lines of the table of some contact files."""

    def frequencies(texts, *options):
        paths = [tmp_path / f"{k}.tsv" for k in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        words = ["--input_files", *paths, "--output_file", tmp_path / "f.tsv", *options]
        get_contact_frequencies.main([str(word) for word in words])
        return (tmp_path / "f.tsv").read_text().splitlines()

    return frequencies


@pytest.mark.parametrize(
    ("options", "types", "rows"),
    [
        ([], "all", ["A:ALA:1\tB:SER:2A\t0.500", "A:ALA:1\tX:LIG:9\t0.167", "A:ALA:1\tA:GLY:5\t0.167"]),
        (["--itypes", "hb"], "hb", ["A:ALA:1\tB:SER:2A\t0.333"]),
        (["--itypes", "hbls", "wb"], "hbls,wb", ["A:ALA:1\tX:LIG:9\t0.167", "A:ALA:1\tA:GLY:5\t0.167"]),
    ],
)
def test_replicas_count_together(run, options, types, rows):
    header, columns, *found = run([FIRST, SECOND], *options)
    assert header == f"#\ttotal_frames:6\tinteraction_types:{types}"
    assert columns == "#\tColumns:\tresidue_1,\tresidue_2\tcontact_frequency"
    assert found == rows


def test_labels(run, tmp_path):
    """Residues with one label are one; others are left out."""
    (tmp_path / "labels.tsv").write_text("# residue\tlabel\nA:ALA:1\tsite\tred\n\nB:SER:2A\tnear\nA:GLY:5\tnear\n")
    assert run([FIRST], "--label_file", tmp_path / "labels.tsv")[2:] == ["near\tsite\t0.750"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)), max_size=40), st.integers(6, 9))
def test_frequencies_are_those_of_sets_of_frames(tmp_path_factory, lines, total):
    folder = tmp_path_factory.mktemp("f")
    text = "".join(f"{f}\tvdw\tA:ALA:{a}:C{b}\tA:ALA:{b}:C\n" for f, a, b in sorted(lines))
    (folder / "c.tsv").write_text(HEADER.format(total, 0, total - 1, 1) + text)
    get_contact_frequencies.main(["--input_files", str(folder / "c.tsv"), "--output_file", str(folder / "f.tsv")])
    frames = defaultdict(set)
    for f, a, b in lines:
        frames[min(a, b), max(a, b)].add(f)
    expected = {f"A:ALA:{a}\tA:ALA:{b}\t{len(own) / total:.3f}" for (a, b), own in frames.items()}
    found = (folder / "f.tsv").read_text().splitlines()[2:]
    assert sorted(found) == sorted(expected)


def test_of_a_trajectory(run, examples, tmp_path):
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    files = ["--topology", path, "--trajectory", path.with_suffix(".xtc"), "--output", tmp_path / "c.tsv"]
    get_dynamic_contacts.main([str(word) for word in [*files, "--stride", 9, "--itypes", "hb", "--distout"]])
    text = (tmp_path / "c.tsv").read_text()
    once, thrice = run([text])[2:], run([text] * 3)[2:]
    assert once == thrice
    assert all(0 < float(line.split("\t")[2]) <= 1 for line in once)
    assert len(once) > 10


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (FIRST + "10\tvdw\tA:ALA:1:CB\tA:GLY:5:CA\n", ["frame 10", "16", "sort"]),
        (FIRST + "18\tvdw\tA:ALA:1:CB\tA:GLY:5:CA\n", ["frame 18"]),
        (FIRST.replace("total_frames:4", "total_frames:1"), ["3 of 1 frames"]),
        ("0\tvdw\ta\tb\n", ["total_frames"]),
        (FIRST.replace("total_frames:4", f"total_frames:{10**400}"), ["total_frames"]),
        (FIRST + "16\tvdw\n", ["line 8"]),
    ],
)
def test_files_that_are_refused(tmp_path, capsys, text, named):
    (tmp_path / "c.tsv").write_text(text)
    words = ["--input_files", tmp_path / "c.tsv", "--output_file", tmp_path / "f.tsv"]
    command_refused(get_contact_frequencies.main, words, capsys, tmp_path / "c.tsv", *named)
    assert not (tmp_path / "f.tsv").exists()


def test_options_that_are_refused(tmp_path, capsys):
    """An output that is a folder, unknown types, and types that a file, or one of the files, lacks."""
    (tmp_path / "a.tsv").write_text(FIRST)
    (tmp_path / "b.tsv").write_text(SECOND.replace(":all", ":hb,sb"))
    files = ["--input_files", tmp_path / "a.tsv", tmp_path / "b.tsv", "--output_file"]
    for words, named in (
        ([*files, tmp_path], ["--output"]),
        ([*files, tmp_path / "f.tsv", "--itypes", "hbonds"], ["hbonds", "hbbb"]),
        ([*files, tmp_path / "f.tsv", "--itypes", "hb", "vdw"], ["b.tsv", "vdw"]),
        ([*files, tmp_path / "f.tsv"], ["b.tsv", "a.tsv", "--itypes"]),
    ):
        command_refused(get_contact_frequencies.main, words, capsys, *named)
