"""The three feature commands: their output, and the input that they refuse."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import mdtraj
import numpy as np
import pandas as pd
import pytest
from refusals import command_refused

from data_prepare.errors import InputWarning
from data_prepare.molecular_dynamics import MD_features, get_dynamic_contacts
from data_prepare.normal_mode_analysis import NMA_features

ROOT = Path(__file__).resolve().parents[3] / "data_prepare"


@pytest.fixture(scope="module")
def helix(examples):
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    return path, path.with_suffix(".xtc")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contacts(pdb, trajectory, output, *options):
    paths = ("--topology", pdb, "--trajectory", trajectory, "--output", output)
    get_dynamic_contacts.main([*map(str, paths), *map(str, options)])
    header, columns, *lines = Path(output).read_text().splitlines()
    assert columns.startswith("# Columns: frame, interaction_type, atom_1, atom_2")
    return header, lines


def features(pdb, trajectory, prefix, *options):
    MD_features.main([*map(str, ("-p", pdb, "-t", trajectory, "-o", prefix)), *options])
    with np.load(f"{prefix}_pair_feature.npz") as pair:
        return pd.read_csv(f"{prefix}_res_feature.csv"), pair["array"]


@pytest.mark.slow
def test_paper_commands_from_any_folder(helix, examples, tmp_path):
    """As scripts, in another folder."""
    pdb, xtc = helix
    contacts, md = (ROOT / "molecular_dynamics" / name for name in ("get_dynamic_contacts.py", "MD_features.py"))
    nma, structure = ROOT / "normal_mode_analysis" / "NMA_features.py", examples / "structures" / "1ubi_A.pdb.gz"
    types = "hb sb pc ps ts hp vdw".split()
    for command in (
        (contacts, "--itypes", *types, "--cores", 2, "--topology", pdb, "--trajectory", xtc, "--output", "c.tsv"),
        (md, "-p", pdb, "-t", xtc, "-i", "c.tsv", "-o", "sub/helix"),
        (nma, "-i", structure, "-o", "ubi"),
    ):
        words = [sys.executable, *map(str, command)]
        run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"c.tsv", "sub/helix_res_feature.csv", "sub/helix_pair_feature.npz", "ubi.npz"}
    assert run.stdout == "ubi.npz\n"
    with np.load(tmp_path / "ubi.npz") as arrays:
        assert {name: array.shape for name, array in arrays.items()} == {"gnm_msf": (3, 76), "anm_cor": (3, 76, 76)}


def test_chains_that_the_box_has_broken(helix, here):
    """MD_features makes them whole, get_dynamic_contacts with --whole."""
    pdb, xtc = helix
    frames = mdtraj.load(str(xtc), top=str(pdb))[:6]
    frames.xyz -= frames.xyz.mean(axis=1, keepdims=True)
    frames.unitcell_lengths, frames.unitcell_angles = np.full((6, 3), 6.0), np.full((6, 3), 90.0)  # nm, degrees
    frames.save("whole.dcd")
    frames.xyz %= 6.0
    frames.save("broken.dcd")
    (table, pair), (expected_table, expected_pair) = features(pdb, "broken.dcd", "b"), features(pdb, "whole.dcd", "w")
    np.testing.assert_allclose(pair, expected_pair, atol=1e-4)
    np.testing.assert_allclose(table["rmsf"], expected_table["rmsf"], atol=1e-5)
    _, expected = contacts(pdb, "whole.dcd", "w.tsv")
    _, whole = contacts(pdb, "broken.dcd", "b.tsv", "--whole")
    assert set(whole) == set(expected)
    _, as_stored = contacts(pdb, "broken.dcd", "s.tsv")
    assert len(as_stored) < len(expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--itypes", "wb"], "wb"),
        (["--cores", 0], "--cores"),
        (["--sb_cutoff_dist", "nan"], "sb_cutoff_dist"),
        (["--vdw_res_diff", -1], "vdw_res_diff"),
    ],
)
def test_options_that_are_refused(helix, here, capsys, options, named):
    pdb, xtc = helix
    paths = ["--topology", pdb, "--trajectory", xtc, "--output", "c.tsv"]
    command_refused(get_dynamic_contacts.main, [*paths, *options], capsys, named)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("options", "used", "warning"),
    [
        (["--end", 0], "80 beg:0 end:79 stride:1", None),
        (["--end", 1000, "--stride", 13], "7 beg:0 end:79 stride:13", "--end 79"),
        (["--begin", 1000], "1 beg:79 end:79 stride:1", "--begin 79"),
        (["--beg", 5, "--end", 4], "1 beg:5 end:5 stride:1", "--end 5"),
        (["--beg", -3, "--end", 4, "--stride", 0], "5 beg:0 end:4 stride:1", "--stride 1"),
    ],
)
def test_frames_are_chosen_as_in_getcontacts(helix, here, options, used, warning):
    """Numbers outside the trajectory are moved into it, with a warning."""
    with pytest.warns(InputWarning, match=warning) if warning else nullcontext():
        header, lines = contacts(*helix, "c.tsv", "--itypes", "hbbb", *options)
    assert header == f"# total_frames:{used} interaction_types:hbbb"
    first, last = (int(part.split(":")[1]) for part in used.split()[1:3])
    assert {int(line.split("\t")[0]) for line in lines} <= set(range(first, last + 1))


def test_files_that_are_refused(helix, here, capsys):
    """Missing ones, and NaN in a later frame: nothing is written."""
    pdb, xtc = helix
    frames = mdtraj.load(str(xtc), top=str(pdb))[:10]
    frames.xyz[7, 3, 0] = np.nan
    frames.save("nan.dcd")
    before = sorted(here.iterdir())
    for topology, trajectory, named in (
        ("none.pdb", xtc, ("none.pdb",)),
        (pdb, "none.xtc", ("none.xtc",)),
        (pdb, "nan.dcd", ("nan.dcd", "frame 7")),
    ):
        command_refused(MD_features.main, ["-p", topology, "-t", trajectory, "-o", "x"], capsys, *named)
        paths = ["--topology", topology, "--trajectory", trajectory, "--output", "c.tsv"]
        command_refused(get_dynamic_contacts.main, paths, capsys, *named)
    command_refused(NMA_features.main, ["-i", "none.pdb", "-o", "x"], capsys, "none.pdb")
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "nc"])
def test_the_range_that_a_cut_trajectory_offers(helix, here, capsys, suffix):
    """Each command refuses the file in one line; with its `--end` the whole frames give what a file of them gives."""
    pdb, xtc = helix
    frames = mdtraj.load(str(xtc), top=str(pdb))[:6]
    path, sound = here / f"cut.{suffix}", here / f"sound.{suffix}"
    frames.save(str(path))
    path.write_bytes(path.read_bytes()[:-100])
    frames[:5].save(str(sound))
    for main, arguments in (
        (MD_features.main, ["-p", pdb, "-t", path, "-o", "x"]),
        (get_dynamic_contacts.main, ["--topology", pdb, "--trajectory", path, "--output", "c.tsv"]),
    ):
        command_refused(main, arguments, capsys, path, "5 whole frames", "--end 4")
        assert not list(here.glob("[cx]*.[tn]*v"))
    assert contacts(pdb, path, "c.tsv", "--end", 4) == contacts(pdb, sound, "s.tsv")
    expected_table, expected_pair = features(pdb, sound, "s")
    for more in ([], ["-i", "c.tsv"]):
        table, pair = features(pdb, path, "x", "--end", "4", *more)
        pd.testing.assert_frame_equal(table, expected_table)
        np.testing.assert_array_equal(pair, expected_pair)


def test_features_of_a_range_of_frames(helix, here, capsys):
    """Contacts may cover some frames of the range, but no others."""
    pdb, xtc = helix
    frames = mdtraj.load(str(xtc), top=str(pdb))
    frames[10:41:5].save("some.xtc")
    chosen = ["--begin", "10", "--end", "40", "--stride", "5"]
    contacts(pdb, xtc, "c.tsv", *chosen)
    (table, pair), (expected_table, expected_pair) = features(pdb, xtc, "x", *chosen), features(pdb, "some.xtc", "y")
    pd.testing.assert_frame_equal(table, expected_table)
    np.testing.assert_array_equal(pair, expected_pair)
    np.testing.assert_array_equal(features(pdb, xtc, "x", *chosen, "-i", "c.tsv")[1], expected_pair)
    np.testing.assert_array_equal(features(pdb, xtc, "x", "-i", "c.tsv")[1][..., :9], expected_pair[..., :9])
    command = ["-p", pdb, "-t", xtc, "-o", "z", "-i", "c.tsv", "--begin", 15, "--stride", 5]
    command_refused(MD_features.main, command, capsys, "c.tsv", "frame 10")
    with pytest.warns(InputWarning, match=f"{xtc}: no frame 99"):
        features(pdb, xtc, "z", "--begin", "70", "--end", "99")


def test_contact_files_are_checked_before_frames_are_read(helix, here, capsys):
    pdb, xtc = helix
    frames = mdtraj.load(str(xtc), top=str(pdb))[:10]
    frames.save("whole.dcd")
    header, lines = contacts(pdb, "whole.dcd", "c.tsv")
    frames.xyz[0, 3, 0] = np.nan
    frames.save("nan.dcd")
    for text, named in (
        ("foreign", "total_frames"),
        ("\n".join([header, *lines]).replace("A:GLU", "B:GLU"), "B:GLU"),
        ("\n".join([header, *lines])[:-9].rsplit("\t", 1)[0], f"line {len(lines) + 1}"),
        (header.replace("total_frames:10", "total_frames:11").replace("end:9", "end:10"), "frame 10"),
    ):
        Path("bad.tsv").write_text(text)
        command_refused(
            MD_features.main, ["-p", pdb, "-t", "nan.dcd", "-i", "bad.tsv", "-o", "x"], capsys, "bad.tsv", named
        )
    with pytest.raises(SystemExit):
        MD_features.main(["-p", str(pdb), "-t", str(xtc), "-i", "none.tsv", "-o", "x"])
    assert capsys.readouterr().err.startswith("error: none.tsv: ")  # before a progress bar
