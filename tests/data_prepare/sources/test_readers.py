"""Readers of the raw sources, each on small files in the form in which the source publishes them."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import shutil
import tempfile
import zipfile

import gemmi
import h5py
import mdtraj
import numpy as np
import pytest
from refusals import refused
from source_files import BREAKS, FRAMES, assert_pooled, failure, frames, only

from data_prepare.sources.entry import Ensemble, Selection
from data_prepare.sources.registry import list_source


def write_mdcath(helix, path, layout="{}", text=bytes, box=None):
    """File of a domain: replicas 0, 2 and 10 at 348 K with three parts of the frames, replica 0 at 450 K with all."""
    replicas = [("348", "0", 0, 4), ("348", "2", 4, 7), ("348", "10", 7, 9), ("450", "0", 0, 9)]
    with h5py.File(path, "w") as file:
        group = file.create_group("1a0aA00")
        content = "".join(["MODEL        1\n", *helix.lines])
        group["pdbProteinAtoms"] = content.encode() if text is bytes else content
        for temperature, replica, first, last in replicas:
            target = group.create_group(f"{layout.format(temperature)}/{replica}")
            target["coords"] = helix.angstrom[first:last]
            target["box"] = np.zeros((3, 3)) if box is None else box
    return path


@pytest.mark.parametrize(("layout", "text"), [("{}", bytes), ("sims{}K", str)])
def test_mdcath(tmp_path, helix, layout, text):
    """Both layouts; replicas by number, pooled; one entry per temperature."""
    path = tmp_path / "mdcath_dataset_1a0aA00.h5"
    write_mdcath(helix, path, layout, text)
    assert_pooled(only(list_source("mdcath", tmp_path)), helix)
    entries = list_source("mdcath", tmp_path, (450, 348, 320))
    assert [entry.name for entry in entries] == ["1a0aA00_320", "1a0aA00_348", "1a0aA00_450"]
    assert {entry.source for entry in entries} == {"mdCATH"}
    np.testing.assert_array_equal(frames(entries[2])[1], helix.angstrom)
    failure(entries[0], path, "320 K", "348, 450")


def test_mdcath_selection(tmp_path, helix, monkeypatch):
    """The range counts for each replica; frames are read in chunks; names are those of the file."""
    path = tmp_path / "mdcath_dataset_1a0aA00.h5"
    entry = only(list_source("mdcath", write_mdcath(helix, path).parent))
    for selection, numbers, which in (
        (Selection(begin=1, end=2), [1, 2, 1, 2, 1], [1, 2, 5, 6, 8]),
        (Selection(stride=2), [0, 2, 0, 2, 0], [0, 2, 4, 6, 7]),
    ):
        found, xyz = frames(entry, selection)
        assert found == numbers
        np.testing.assert_array_equal(xyz, helix.angstrom[which])
    failure(entry, path, "348/2/coords", "begin", selection=Selection(begin=3))
    failure(entry, path, "chain B", "A", selection=Selection(chains=("B",)))
    with entry.open(Selection(chains=("A",))) as system:
        assert isinstance(system, Ensemble)
        assert system.topology.atom_names == helix.topology.atom_names
    monkeypatch.setattr("data_prepare.molecular_dynamics.frames.trajectory.CHUNK_FRAMES", 2)
    with list_source("mdcath", tmp_path, [450])[0].open(Selection(begin=1, stride=3)) as system:
        assert [chunk.numbers.tolist() for chunk in system.chunks] == [[1, 4], [7]]


def test_mdcath_broken_chain(tmp_path, helix):
    """The box is in nm, the coordinates in Angstrom."""
    path = tmp_path / "mdcath_dataset_1a0aA00.h5"
    write_mdcath(helix, path, box=np.diag([6.0, 6.0, 6.0]))
    with h5py.File(path, "r+") as file:
        coords = file["1a0aA00/348/2/coords"]
        xyz = coords[()]
        xyz[1, helix.topology.residue_of_atom == 9, 0] += 60.0
        coords[...] = xyz
    assert_pooled(only(list_source("mdcath", tmp_path)), helix, atol=1e-4)


def test_mdcath_damaged_and_foreign(tmp_path, helix):
    path = tmp_path / "mdcath_dataset_1a0aA00.h5"
    whole = write_mdcath(helix, path).read_bytes()
    entry = only(list_source("mdcath", tmp_path))
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        failure(entry, path)
    nan, short = np.full((3, *helix.nm.shape[1:]), np.nan), helix.angstrom[:, :-1]
    for change, named in (
        (lambda group: group["348/2/coords"].write_direct(nan), "frame 0"),
        (lambda group: group.pop("348/2/coords"), "coords"),
        (lambda group: group.pop("pdbProteinAtoms"), "pdbProteinAtoms"),
        (lambda group: [group.pop(f"348/{number}") for number in ("0", "2", "10")], "348 K"),
        (
            lambda group: [group.pop("348/2/coords"), group.create_dataset("348/2/coords", data=short)],
            "(frames, 224, 3)",
        ),
    ):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file["1a0aA00"])
        failure(entry, path, named)
    with h5py.File(path, "w") as file:
        file["1a0aA00/pdbProteinAtoms"] = "text"
    text = path.read_bytes()
    heap = text.index(b"GCOL") + 16
    path.write_bytes(text[:heap] + bytes(4080) + text[heap + 4080 :])  # HDF5 would read it without end
    failure(entry, path, "texts are damaged")
    other = path.rename(tmp_path / "mdcath_dataset_9xyzA00.h5")
    other.write_bytes(whole)
    failure(only(list_source("mdcath", tmp_path)), other, "9xyzA00", "1a0aA00")


def write_atlas(helix, folder):
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
def test_atlas(tmp_path, helix, temporary, form):
    raw = tmp_path / "raw"
    raw.mkdir()
    unpacked = write_atlas(helix, tmp_path / "unpacked")
    if form == "flat":
        write_atlas(helix, raw)
    if "folder" in form.split():
        write_atlas(helix, raw / "16pk_A")
    if "zip" in form:
        inside = "16pk_A/" if form == "zip of a folder" else "../" if form == "zip" else ""
        zipped(unpacked, raw / "16pk_A_protein.zip", inside)
    entry = only(list_source("atlas", raw))
    assert (entry.name, entry.source) == ("16pk_A", "ATLAS")
    assert_pooled(entry, helix)
    assert not list(tmp_path.rglob("evil.txt"))
    assert frames(entry, Selection(begin=1, end=2))[0] == [1, 2, 1, 2, 1]
    assert (entry.paths[0].suffix == ".zip") == ("zip" in form)


def test_atlas_temporary_files(tmp_path, helix, temporary):
    """Unpacks one replica at a time; messages name the zip; other errors pass through."""
    path = zipped(write_atlas(helix, tmp_path / "unpacked"), tmp_path / "16pk_A.zip")
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


def test_atlas_unpacks_nothing_onto_a_full_disk(tmp_path, helix, temporary, monkeypatch):
    path = zipped(write_atlas(helix, tmp_path / "unpacked"), tmp_path / "16pk_A.zip")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**3))
    failure(only(list_source("atlas", tmp_path)), path, temporary, "TMPDIR")


def test_atlas_missing_and_damaged_files(tmp_path, helix, temporary):
    folder = write_atlas(helix, tmp_path / "unpacked")
    path = tmp_path / "16pk_A.zip"
    for name, read in (("16pk_A_R2.xtc", [0, 1, 2, 3, 0, 1]), ("16pk_A_R1.xtc", [0, 1])):
        (folder / name).unlink()
        assert frames(only(list_source("atlas", zipped(folder, path).parent)))[0] == read
    for name in ("16pk_A_R10.xtc", "16pk_A.pdb"):
        (folder / name).rename(tmp_path / "moved")
        failure(only(list_source("atlas", zipped(folder, path).parent)), path, name.replace("R10", "R1"))
        (tmp_path / "moved").rename(folder / name)
    entry = only(list_source("atlas", zipped(folder, path, compression=zipfile.ZIP_STORED).parent))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("16pk_A_R10.xtc").header_offset + 500
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    failure(entry, path, "16pk_A_R10.xtc", "CRC")
    path.write_bytes(whole[:-100])
    failure(entry, path)
    path.unlink()
    failure(entry, path)


MASSES = {"H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "P": 31.0, "CA": 40.1}
# residue name, numbers, chain, segment, atoms; ion and ligand have the names and numbers of protein
SURROUNDINGS = (
    ("LIG", [3], "A", "LIG", {"N": "N", "CA": "C", "O1": "O", "H1": "H"}),
    ("CAL", [5], "A", "ION", {"CA": "CA"}),
    ("POPC", range(1, 4), "L", "MEMB", {"N": "N", "P": "P", "C1": "C", "C11": "C", "C": "C"}),
    ("TIP3", range(1, 30), "W", "TIP3", {"OH2": "O", "H1": "H", "H2": "H"}),
)


def write_gpcrmd(helix, folder, topology_names):
    """A system: PDB, PSF and three DCD replicas."""
    folder.mkdir()
    pdb, psf = [*helix.lines], []
    for line in helix.lines:
        psf.append(("PROA", line[22:26], line[17:21], line[12:16], MASSES[line[76:78].strip()]))
    for residue, numbers, chain, segment, names in SURROUNDINGS:
        for number in numbers:
            for name, element in names.items():
                line = f"ATOM  {len(pdb):5d} {name:>4} {residue:<4}{chain}{number:4d}    {'   1.000' * 3}"
                pdb.append(f"{line}  1.00  0.00          {element:>2}\n")
                psf.append((segment, number, residue, name, MASSES[element]))
    content = {
        ".pdb": "".join(pdb) + "END\n",
        ".psf": f"PSF EXT\n\n{len(psf)} !NATOM\n"
        + "".join("{} {} {} {} {} X1 0 {} 0\n".format(0, *atom) for atom in psf),
    }
    for name in topology_names:
        (folder / name).write_text(content[name[-4:]])
    others = np.random.default_rng(0).uniform(-20, 20, (FRAMES, len(pdb) - len(helix.lines), 3)).astype(np.float32)
    xyz = np.concatenate([helix.angstrom, others], axis=1)
    for number, first, last in zip("123", BREAKS[:-1], BREAKS[1:], strict=True):
        with mdtraj.formats.DCDTrajectoryFile(str(folder / f"run_{number}.dcd"), "w") as file:
            file.write(xyz[first:last])


@pytest.mark.parametrize("topologies", [("system.pdb",), ("system.psf",), ("a.psf", "system.pdb")])
def test_gpcrmd(tmp_path, helix, topologies):
    """Lipids, water, ion and ligand are not protein, whatever the names of their atoms and chains."""
    write_gpcrmd(helix, tmp_path / "67", topologies)
    entry = only(list_source("gpcrmd", tmp_path))
    assert (entry.name, entry.source) == ("67", "GPCRmd")
    assert entry.path.name == topologies[-1]  # PDB before PSF
    with entry.open(Selection()) as system:
        assert "CA" in system.topology.elements
        assert system.topology.protein.chain_sequences() == helix.topology.protein.chain_sequences()
        assert system.topology.protein.chain_ids == (("A",) if entry.path.suffix == ".pdb" else ("P",))
    assert_pooled(entry, helix)
    assert frames(entry, Selection(stride=3))[0] == [0, 3, 0, 0]


@pytest.mark.parametrize("form", ["pdb", "pdb.gz", "cif"])
def test_ped(tmp_path, helix, form):
    models = [f"MODEL {n:8d}\n{helix.model(n)}TER\n{helix.model(n, 'B', 12)}TER\nENDMDL\n" for n in range(3)]
    text = "".join(models) + "END\n"
    path = tmp_path / f"PED00001e001.{form}"
    if form == "cif":
        text = gemmi.read_pdb_string(text).make_mmcif_document().as_string()
    path.write_bytes(gzip.compress(text.encode()) if form == "pdb.gz" else text.encode())
    entry = only(list_source("ped", tmp_path))
    assert (entry.name, entry.source, entry.paths) == ("PED00001e001", "PED", (path,))
    with entry.open(Selection()) as system:
        assert isinstance(system, Ensemble)
        assert system.topology.protein.chain_sequences() == ["AEAAAKEAAAKEAAAKA"] * 2
    numbers, xyz = frames(entry, Selection(begin=1))
    assert numbers == [1, 2]
    both = np.concatenate([helix.angstrom, helix.angstrom + np.float32(12)], axis=1)[1:3]
    np.testing.assert_allclose(xyz, both, atol=6e-4)
    np.testing.assert_array_equal(frames(entry, Selection(chains=("B",)))[1][1:], xyz[:, len(helix.lines) :])


def test_idrome(tmp_path, helix):
    """C-alpha beads are refused with a hint; back-mapped files take precedence."""
    region = tmp_path / "IDRome" / "Q5" / "T7" / "B8" / "541_1292"
    helix.save(region / "traj.xtc")
    (region / "top.pdb").write_text("".join(line for line in helix.lines if line[12:16] == " CA "))
    entry = only(list_source("idrome", tmp_path / "IDRome"))
    assert (entry.name, entry.source) == ("Q5_T7_B8_541_1292", "IDRome")
    failure(entry, region / "top.pdb", "C-alpha", "cg2all", "top_AA.pdb")
    (region / "top_AA.pdb").write_text(helix.pdb)
    failure(only(list_source("idrome", tmp_path)), region / "top.pdb", "C-alpha")  # traj_AA.xtc is missing
    helix.save(region / "traj_AA.xtc")
    entry = only(list_source("idrome", region))
    assert entry.name == "541_1292"
    np.testing.assert_array_equal(frames(entry)[1], helix.angstrom)
    assert frames(entry, Selection(begin=2, end=6, stride=3))[0] == [2, 5]
    (region / "top_AA.pdb").rename(region / "top.pdb")  # all atoms under the released names
    assert frames(only(list_source("idrome", tmp_path)))[0] == list(range(9))


@pytest.fixture
def chains(helix):
    """Entry of the release: chain H with two unresolved residues and a modified one, chain L whole."""
    atoms = helix.topology.atoms_by_name
    backbone = np.array([[helix.angstrom[0, by_name[name]] for name in ("N", "C", "CA", "O")] for by_name in atoms])
    length = len(backbone)
    msk = np.ones(length, int)
    msk[[0, 5]] = 0
    seq = helix.topology.chain_sequences()[0]
    more = {"crd_sc": np.zeros((length, 10, 3)), "cdr": np.array(["-"] * length, object)}
    resolved = np.where(msk[:, None, None], backbone, 0)
    return {
        "H": {"crd_bb": resolved, "msk": msk, "seq": f"{seq[:2]}O{seq[3:]}", **more},
        "L": {"crd_bb": backbone + 15, "msk": np.ones(length), "seq": seq, **more},
    }


def test_proteinflow(tmp_path, chains):
    (tmp_path / "1abc-1.pickle").write_bytes(pickle.dumps(chains))
    entry = only(list_source("proteinflow", tmp_path))
    assert (entry.name, entry.source) == ("1abc-1", "proteinflow_pdb")
    with entry.open(Selection()) as system:
        topology, xyz = system
    assert topology.chain_ids == ("H", "L")
    assert topology.chain_lengths == [15, 17]
    assert topology.atom_names[:5] == ("N", "CA", "C", "O", "N")
    assert topology.residue_names[:3] == ("GLU", "UNK", "ALA")
    assert topology.residue_numbers[:5].tolist() == [2, 3, 4, 5, 7]
    sequences, residue_index = topology.full_sequences()
    assert sequences == ["AEXAAKEAAAKEAAAKA", "AEAAAKEAAAKEAAAKA"]
    assert np.setdiff1d(np.arange(34), residue_index).tolist() == [0, 5]
    expected = [chains[chain]["crd_bb"][chains[chain]["msk"] != 0, 2] for chain in "HL"]
    np.testing.assert_array_equal(xyz[1::4], np.concatenate(expected))  # C-alpha
    with entry.open(Selection(chains=("L",))) as system:
        assert system.topology.chain_ids == ("L",)
        np.testing.assert_array_equal(system.xyz[1::4], expected[1])


def test_proteinflow_sources(tmp_path):
    """SAbDab is recognised by the path, from the name of the raw folder on."""
    raw = tmp_path / "proteinflow"
    (raw / "SAbDab_2023" / "valid").mkdir(parents=True)
    for name in ("SAbDab_2023/valid/b.pkl", "SAbDab_2023/a.pdb.gz", "c.pdb"):
        (raw / name).touch()
    sources = {"a": "proteinflow_sabdab", "b": "proteinflow_sabdab", "c": "proteinflow_pdb"}
    assert {entry.name: entry.source for entry in list_source("proteinflow", raw)} == sources
    assert {entry.source for entry in list_source("proteinflow", raw / "SAbDab_2023")} == {"proteinflow_sabdab"}


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize(
    ("entry", "change", "named"),
    [
        ({"H": Attack()}, None, "system"),
        ([1], None, "ProteinFlow"),
        ({}, None, "residue"),
        ({"H": [1]}, None, "chain H"),
        ({"H": {"seq": "AA", "msk": np.ones(2)}}, None, "crd_bb"),
        (None, {"seq": 5}, "chain L"),
        (None, {"msk": np.ones(3)}, "(17, 4, 3)"),
        (None, {"crd_bb": np.full((17, 4, 3), "x")}, "chain L"),
        (None, {"msk": np.zeros(17)}, "residue"),
    ],
)
def test_proteinflow_refused(tmp_path, chains, monkeypatch, entry, change, named):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps({"L": chains["L"] | change} if change else entry))
    refused(lambda: only(list_source("proteinflow", tmp_path)).open(Selection()).__enter__(), path, named)
    assert os.listdir(tmp_path) == ["x.pickle"]
