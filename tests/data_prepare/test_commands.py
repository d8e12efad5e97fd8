"""The commands from outside: what they write, and the one line that wrong input gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mdtraj
import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTACTS = ROOT / "data_prepare" / "molecular_dynamics" / "get_dynamic_contacts.py"
MD = ROOT / "data_prepare" / "molecular_dynamics" / "MD_features.py"
NMA = ROOT / "data_prepare" / "normal_mode_analysis" / "NMA_features.py"


def run(*command, cwd):
    return subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)


def one_line(finished, *parts):
    """Exit code 2, the last line of standard error is the message, no traceback."""
    assert finished.returncode == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    lines = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, finished.stderr
    for part in parts:
        assert part in lines[0]


@pytest.fixture(scope="module")
def helix(examples):
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    return path, path.with_suffix(".xtc")


def test_paper_commands_from_any_folder(helix, tmp_path):
    """Contacts, features with and without the contact file: the same numbers."""
    pdb, xtc = helix
    types = ("hb", "sb", "pc", "ps", "ts", "hp", "vdw")
    made = run(
        CONTACTS, "--itypes", *types, "--cores", 2, "--topology", pdb, "--trajectory", xtc, "--output", "c.tsv",
        cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    lines = (tmp_path / "c.tsv").read_text().splitlines()
    frames = len(mdtraj.load(str(xtc), top=str(pdb)))
    assert lines[0] == (
        f"# total_frames:{frames} beg:0 end:{frames - 1} stride:1 interaction_types:hb,sb,pc,ps,ts,hp,vdw"
    )
    assert lines[1].startswith("# Columns: frame, interaction_type, atom_1, atom_2")
    numbers = [int(line.split("\t")[0]) for line in lines[2:]]
    assert numbers == sorted(numbers)
    for prefix, options in (("with", ("-i", "c.tsv")), ("without", ())):
        made = run(MD, "-p", pdb, "-t", xtc, *options, "-o", f"sub/{prefix}", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        assert made.stdout.splitlines() == [f"sub/{prefix}_res_feature.csv", f"sub/{prefix}_pair_feature.npz"]
    with_file, without = (np.load(tmp_path / "sub" / f"{n}_pair_feature.npz")["array"] for n in ("with", "without"))
    np.testing.assert_array_equal(with_file, without)
    assert with_file.shape == (17, 17, 10)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "sub" / "with_res_feature.csv"),
        pd.read_csv(tmp_path / "sub" / "without_res_feature.csv"),
    )
    assert not list(tmp_path.rglob("*.tmp*"))


def test_frames_keep_their_numbers(helix, tmp_path):
    pdb, xtc = helix
    command = (CONTACTS, "--topology", pdb, "--trajectory", xtc)
    run(*command, "--itypes", "all", "--output", "all.tsv", cwd=tmp_path)
    made = run(
        *command, "--itypes", "vdw", "--beg", 3, "--end", 11, "--stride", 4, "--output", "some.tsv", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    header, _, *lines = (tmp_path / "some.tsv").read_text().splitlines()
    assert header == "# total_frames:3 beg:3 end:11 stride:4 interaction_types:vdw"
    every = (tmp_path / "all.tsv").read_text().splitlines()
    assert every[0].endswith("interaction_types:hp,sb,pc,ps,ts,vdw,hb")
    assert set(lines) == {line for line in every if line.split("\t")[0] in ("3", "7", "11") and "\tvdw\t" in line}


def test_the_first_frame_of_the_file_decides(write_pdb, tmp_path):
    """A disulfide that only frame 0 has hides the contacts of the later frames too, whatever --beg."""
    names = ("N", "CA", "C", "SG")
    atoms = [(n, "CYS", "A", r, (9.0 * i, 30.0 * (r > 1), 0)) for r in (1, 9) for i, n in enumerate(names)]
    pdb = write_pdb(atoms)
    frames = np.stack([mdtraj.load(str(pdb)).xyz[0]] * 3)
    frames[0, 7] = frames[0, 3] + [0.2, 0, 0]  # nm: bonded
    frames[1:, 7] = frames[0, 3] + [0.3, 0, 0]  # only close
    mdtraj.Trajectory(frames, mdtraj.load(str(pdb)).topology).save(str(tmp_path / "t.dcd"))
    command = (CONTACTS, "--topology", pdb, "--trajectory", "t.dcd", "--itypes", "vdw", "--output", "c.tsv")
    assert run(*command, "--beg", 1, cwd=tmp_path).returncode == 0
    header, _, *lines = (tmp_path / "c.tsv").read_text().splitlines()
    assert header.startswith("# total_frames:2 beg:1 end:2")
    assert lines == []


def test_nma_command(examples, tmp_path):
    made = run(NMA, "-i", examples / "structures" / "1ubi_A.pdb.gz", "-o", "ubi", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    with np.load(tmp_path / "ubi.npz") as features:
        assert features["gnm_msf"].shape == (3, 76)
        assert features["anm_cor"].shape == (3, 76, 76)


def test_missing_file(tmp_path):
    one_line(run(NMA, "-i", "none.pdb", "-o", "x", cwd=tmp_path), "none.pdb", "no such file")
    one_line(run(MD, "-p", "none.pdb", "-t", "none.xtc", "-o", "x", cwd=tmp_path), "none.pdb", "no such file")


def test_debug_shows_the_traceback(tmp_path):
    finished = run(NMA, "-i", "none.pdb", "-o", "x", "--debug", cwd=tmp_path)
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr


def test_wrong_inputs_of_trajectories(helix, tmp_path, write_pdb):
    """Other atom counts, NaN, no frames, no hydrogens: nothing is written."""
    pdb, xtc = helix
    frames = mdtraj.load(str(xtc), top=str(pdb))
    frames.atom_slice(range(20)).save(str(tmp_path / "few.xtc"))
    one_line(
        run(MD, "-p", pdb, "-t", "few.xtc", "-o", "x", cwd=tmp_path), "few.xtc: 20 atoms", "helix_aeaaak.pdb has 224"
    )

    frames.xyz[7, 3, 0] = np.nan
    frames[:10].save(str(tmp_path / "nan.dcd"))
    contacts = (CONTACTS, "--topology", pdb, "--output", "c.tsv", "--trajectory")
    one_line(run(*contacts, "nan.dcd", cwd=tmp_path), "nan.dcd: frame 7", "not finite")

    (tmp_path / "empty.xtc").write_bytes(b"")
    one_line(run(*contacts, "empty.xtc", cwd=tmp_path), "empty.xtc")

    heavy = frames.atom_slice(frames.topology.select("not element H"))
    heavy[0].save(str(tmp_path / "heavy.pdb"))
    heavy[:2].save(str(tmp_path / "heavy.xtc"))
    bare = (CONTACTS, "--topology", "heavy.pdb", "--trajectory", "heavy.xtc", "--output", "c.tsv", "--itypes")
    one_line(run(*bare, "hb", "vdw", cwd=tmp_path), "heavy.pdb: no hydrogens")
    assert not (tmp_path / "c.tsv").exists()
    assert not list(tmp_path.glob(".*"))
    assert run(*bare, "vdw", "sb", cwd=tmp_path).returncode == 0


def test_wrong_options(helix, tmp_path):
    pdb, xtc = helix
    contacts = (CONTACTS, "--topology", pdb, "--trajectory", xtc, "--output", "c.tsv")
    one_line(run(*contacts, "--itypes", "wb", cwd=tmp_path), "unknown interaction type wb")
    one_line(run(*contacts, "--cores", 0, cwd=tmp_path), "--cores 0")
    one_line(run(*contacts, "--beg", 1000, cwd=tmp_path), "no frame from 1000")
    one_line(run(*contacts, "--stride", 0, cwd=tmp_path), "stride 0")
