"""ATLAS: zips and unpacked files."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile

import pytest
from source_files import assert_pooled, failure, frames, only

from data_prepare.sources.entry import Selection
from data_prepare.sources.registry import list_source


def write(helix, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "16pk_A.pdb").write_text(helix.pdb)
    helix.save_replicas(folder, *(f"16pk_A_R{number}.xtc" for number in (1, 2, 10)))
    return folder


def zipped(folder, path, inside="", compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("../../evil.txt", "outside")
        archive.writestr("__MACOSX/._16pk_A.pdb", "\0")
        for file in sorted(folder.iterdir()):
            archive.write(file, inside + file.name)
    return path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())  # nothing is left


@pytest.mark.parametrize("form", ["zip", "zip of a folder", "folder", "flat", "zip and folder"])
def test_forms(tmp_path, helix, temporary, form):
    """Replicas are pooled."""
    raw = tmp_path / "raw"
    raw.mkdir()
    unpacked = write(helix, tmp_path / "unpacked")
    if form == "flat":
        write(helix, raw)
    if "folder" in form.split():
        write(helix, raw / "16pk_A")
    if "zip" in form:
        inside = "16pk_A/" if form == "zip of a folder" else "../" if form == "zip" else ""
        zipped(unpacked, raw / "16pk_A_protein.zip", inside)
    entry = only(list_source("atlas", raw))
    assert (entry.name, entry.source) == ("16pk_A", "ATLAS")
    assert_pooled(entry, helix)
    assert not list(tmp_path.rglob("evil.txt"))
    assert frames(entry, Selection(begin=1, end=2))[0] == [1, 2, 1, 2, 1]
    assert (entry.paths[0].suffix == ".zip") == ("zip" in form)


def test_temporary_files(tmp_path, helix, temporary):
    """One replica at a time; other errors pass through; messages name the zip."""
    path = zipped(write(helix, tmp_path / "unpacked"), tmp_path / "16pk_A.zip")
    entry = only(list_source("atlas", tmp_path))
    with entry.open(Selection()) as system:
        assert system.topology.path == path / "16pk_A.pdb"
        for _ in system.chunks:
            assert len(list(temporary.glob("*/*.xtc"))) == 1
    with contextlib.suppress(KeyError), entry.open(Selection()) as system:
        next(system.chunks)
        raise KeyError("an error of the caller")
    failure(entry, f"{path}/16pk_A_R2.xtc", "begin", selection=Selection(begin=3))
    failure(entry, f"{path}/16pk_A.pdb", "chain Z", selection=Selection(chains=("Z",)))


def test_missing_files(tmp_path, helix, temporary):
    folder = write(helix, tmp_path / "raw" / "16pk_A")
    (folder / "16pk_A_R2.xtc").unlink()
    helix.save(folder / "16pk_A_prod_R1_fit.xtc", slice(1))  # a second name of R1
    assert frames(only(list_source("atlas", tmp_path / "raw")))[0] == [0, 1, 2, 3, 0, 1]
    for number in ("R1", "R10", "prod_R1_fit"):
        (folder / f"16pk_A_{number}.xtc").unlink()
    failure(only(list_source("atlas", tmp_path / "raw")), folder, "16pk_A_R1.xtc")
    path = zipped(folder, tmp_path / "raw" / "16pk_A.zip")
    failure(only(list_source("atlas", tmp_path / "raw")), path, "16pk_A_R1.xtc")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("16pk_A_R1.xtc", "")
    failure(only(list_source("atlas", tmp_path / "raw")), path, "16pk_A.pdb")


def test_damaged_zip(tmp_path, helix, temporary):
    path = zipped(write(helix, tmp_path / "unpacked"), tmp_path / "16pk_A.zip", compression=zipfile.ZIP_STORED)
    entry = only(list_source("atlas", tmp_path))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("16pk_A_R10.xtc").header_offset + 500
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    failure(entry, path, "16pk_A_R10.xtc", "CRC")
    path.write_bytes(whole[:-100])
    failure(entry, path)
    path.unlink()
    failure(entry, path)
