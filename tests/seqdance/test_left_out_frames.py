"""`seqdance prepare` on damaged frames in every form of raw data: left out, and named in the store and in a table."""

from __future__ import annotations

import json
import zipfile

import h5py
import mdtraj
import numpy as np
import pandas as pd
import pytest

from data_prepare.dataset.store import FeatureStore
from data_prepare.pipeline.extraction import entry_features
from data_prepare.sources.entry import FileEntry, Selection
from seqdance.commands import prepare

FRAMES = 20
OVERFLOW = 2147483.6  # nm, the x of the last frames of some published files
PROPERTIES = ("rmsf", "corr")
DAMAGED = {  # entry -> frames that are left out
    "1tai_A": [18, 19],
    "2zer_A": [7],
    "3son_A": [],
    "4bad_A": [10, 11, 12],  # more than a tenth: fails
}


@pytest.fixture(scope="module")
def helix(examples):
    """Topology and frames of an example."""
    path = examples / "trajectories" / "helix_aeaaak.pdb"
    return path, mdtraj.load(str(path.with_suffix(".xtc")), top=str(path))[:FRAMES]


def damaged(helix, name):
    """A trajectory with the damage of an entry."""
    trajectory = helix[1][:]
    if name == "1tai_A":
        trajectory.xyz[DAMAGED[name], :, 0] = OVERFLOW
    else:
        trajectory.xyz[DAMAGED[name]] = 0
    return trajectory


def write_mdcath(helix, folder):
    for name in DAMAGED:
        with h5py.File(folder / f"mdcath_dataset_{name}.h5", "w") as file:
            file[f"{name}/pdbProteinAtoms"] = helix[0].read_text()
            file[f"{name}/348/0/coords"] = 10 * damaged(helix, name).xyz
    return lambda name: (f"{name}_348", f"{folder}/mdcath_dataset_{name}.h5: /{name}/348/0/coords")


def write_files(helix, folder, form):
    """Topology and trajectory; `form` makes the name of the trajectory."""
    for name in DAMAGED:
        damaged(helix, name).save(str(folder / form.format(name)))
        (folder / f"{name}.pdb").write_text(helix[0].read_text())
    return lambda name: (name, str(folder / form.format(name)))


def write_zips(helix, folder):
    unpacked = folder / ".unpacked"
    unpacked.mkdir()
    write_files(helix, unpacked, "{}_R1.xtc")
    for name in DAMAGED:
        with zipfile.ZipFile(folder / f"{name}_protein.zip", "w") as archive:
            for path in unpacked.glob(f"{name}*"):
                archive.write(path, path.name)
    return lambda name: (name, f"{folder}/{name}_protein.zip/{name}_R1.xtc")


def write_models(helix, folder):
    for name in DAMAGED:
        trajectory = damaged(helix, name)
        trajectory.xyz[np.abs(trajectory.xyz) > 900] = 900  # the columns of a PDB hold no more
        trajectory.save(str(folder / f"{name}.pdb"), force_overwrite=True)
    return lambda name: (name, str(folder / f"{name}.pdb"))


@pytest.mark.parametrize(
    ("source", "write"),
    [
        ("mdcath", write_mdcath),
        ("atlas", write_zips),
        ("atlas", lambda *given: write_files(*given, "{}_R1.xtc")),
        ("trajectories", lambda *given: write_files(*given, "{}.dcd")),
        ("ensembles", write_models),
    ],
)
def test_left_out_frames(helix, tmp_path, monkeypatch, capsys, source, write):
    monkeypatch.setenv("PATH", "")  # no mmseqs, which takes a second
    raw, store = tmp_path / "raw", tmp_path / "out" / "s.h5"
    raw.mkdir()
    expected = write(helix, raw)
    with pytest.raises(SystemExit) as left:
        prepare.main(["--source", source, "--raw", str(raw), "--out", str(store), "--properties", *PROPERTIES])
    assert left.value.code == 1
    failures = pd.read_csv(store.with_name("failures.csv"), index_col="name")["reason"]
    bad, file = expected("4bad_A")
    assert failures.index.tolist() == [bad]
    assert "3 of 20 frames are broken" in failures[bad]
    assert f"{file}: frame 10" in failures[bad]

    table = pd.read_csv(store.with_name("left_out_frames.csv"))
    rows = [(*expected(name), frame) for name in ("1tai_A", "2zer_A") for frame in DAMAGED[name]]
    assert list(table[["name", "file", "frame"]].itertuples(index=False, name=None)) == rows
    assert table["problem"].str.contains("damaged" if source != "ensembles" else "damaged|broken").all()
    err = capsys.readouterr().err
    with FeatureStore(store) as opened:
        assert opened.names() == sorted(expected(name)[0] for name in list(DAMAGED)[:3])
        for name, frames in list(DAMAGED.items())[:3]:
            entry, file = expected(name)
            left_out = json.loads(opened.attributes_of(entry).get("left_out_frames", "[]"))
            assert [tuple(frame[:2]) for frame in left_out] == [(file, frame) for frame in frames]
            assert (f"note: {entry}: {file}: frame" in err) == bool(frames)
            residue, pair = opened.read(entry)
            sound = helix[1][[k for k in range(FRAMES) if k not in frames]]
            sound.save(str(tmp_path / "sound.dcd"))
            own = FileEntry(name="x", source="x", path=helix[0], trajectories=(tmp_path / "sound.dcd",))
            features = entry_features(own, Selection(), PROPERTIES)
            np.testing.assert_allclose(residue[:, 2], features.residue[:, 2], atol=2e-3)
            np.testing.assert_allclose(pair[..., -1], features.pair[..., -1], atol=0.05)
