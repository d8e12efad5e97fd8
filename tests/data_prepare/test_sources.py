"""Readers of the raw sources, each on small files in the form in which the source publishes them."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import gemmi
import h5py
import mdtraj
import numpy as np
import pytest

from data_prepare.errors import InputError, InputWarning
from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.molecular_dynamics.frames.trajectory import Chunk
from data_prepare.normal_mode_analysis.features import nma_features_of
from data_prepare.properties import group_of
from data_prepare.sources.entry import Ensemble, FileEntry, Selection
from data_prepare.sources.manifest import read_manifest
from data_prepare.sources.registry import SOURCES, list_source
from data_prepare.structure.readers import read_structure, read_topology
from data_prepare.structure.topology import Structure

FRAMES = 9
BREAKS = (0, 4, 7, 9)  # of the frames into three replicas
WATER = [("OH2", "O", 16.0), ("H1", "H", 1.0), ("H2", "H", 1.0)]


def angstrom_chunk(xyz, first=0):
    return Chunk(np.arange(first, first + len(xyz)), np.asarray(xyz, np.float32), "angstrom")


def pdb_line(serial, name, residue, chain, number, xyz, element):
    """Line of a PDB file; residue names of four letters reach into the blank column after them."""
    padded = name if len(name) == 4 else f" {name:<3}"
    x, y, z = xyz
    return (
        f"ATOM  {serial:5d} {padded} {residue:<4}{chain}{number:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2}\n"
    )


class System:
    """Some frames of the example helix.

    Attributes
    ----------
    pdb
        Text of its PDB file, chain A.
    topology
        Of that file.
    nm
        (frames, atoms, 3).
    """

    def __init__(self, folder: Path, examples: Path) -> None:
        source = examples / "trajectories" / "helix_aeaaak.pdb"
        trajectory = mdtraj.load(str(source.with_suffix(".xtc")), top=str(source))[:: 80 // FRAMES][:FRAMES]
        self.pdb = source.read_text()
        self.path = folder / "helix.pdb"
        self.path.write_text(self.pdb)
        self.topology = read_topology(self.path)
        self.mdtraj = trajectory.topology
        self.nm = trajectory.xyz
        self.long = self.save(folder / "long.xtc")

    @property
    def angstrom(self) -> np.ndarray:
        return self.nm * np.float32(10)

    def save(self, path: Path, first: int = 0, last: int = FRAMES) -> Path:
        """Write frames."""
        path.parent.mkdir(parents=True, exist_ok=True)
        mdtraj.Trajectory(self.nm[first:last], self.mdtraj).save(str(path))
        return path

    def save_replicas(self, folder: Path, *names: str) -> None:
        """Write three replicas."""
        for name, first, last in zip(names, BREAKS[:-1], BREAKS[1:], strict=True):
            self.save(folder / name, first, last)


@pytest.fixture(scope="module")
def helix(tmp_path_factory, examples):
    return System(tmp_path_factory.mktemp("helix"), examples)


@pytest.fixture(scope="module")
def of_one_trajectory(helix):
    """Features of all frames in one file."""
    return md_features(helix.topology, helix.long)


def features(entry, reading=None):
    with entry.open(reading or Selection()) as system:
        return md_features(system.topology, system.chunks)


def frames(entry, reading):
    """Numbers of the frames of each replica that are read, and all coordinates in Angstrom."""
    with entry.open(reading) as system:
        chunks = list(system.chunks)
    return [number for chunk in chunks for number in chunk.numbers], np.concatenate([c.angstrom for c in chunks])


def assert_same(some, others):
    """Equal but for the order in which float64 sums over chunks are taken."""
    np.testing.assert_allclose(some.residue, others.residue, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(some.pair, others.pair, rtol=0, atol=1e-12)


def only(entries):
    (entry,) = entries
    return entry


def failure(entry, reading=None):
    """Why an entry cannot be made: one line."""
    with pytest.raises(InputError) as error:
        features(entry, reading)
    assert "\n" not in str(error.value)
    return str(error.value)


def without_hydrogens(text):
    return "".join(line for line in text.splitlines(True) if line[76:78].strip() != "H")


# all of them


@pytest.mark.parametrize("source", SOURCES)
def test_empty_and_missing_folders(tmp_path, source):
    (tmp_path / "notes.txt").write_text("nothing of use")
    with pytest.raises(InputError, match=rf"^{tmp_path}: nothing to read in it; expected \w"):
        list_source(source, tmp_path)
    with pytest.raises(InputError, match=r"none: no such folder; expected one with \w"):
        list_source(source, tmp_path / "none")
    with pytest.raises(InputError, match="unknown source cath; known are mdcath"):
        list_source("cath", tmp_path)


FILES = {
    "mdcath": ["data/mdcath_dataset_2a0aA00.h5", "mdcath_dataset_1a0aA00.h5"],
    "atlas": ["b/16pk_A.pdb", "b/16pk_A_R1.xtc", "1a62_A_protein.zip", "2cvi_B_R1.xtc", "3abc_A_analysis.zip"],
    "gpcrmd": ["b/x.psf", "b/x.dcd", "10_dyn_67.pdb", "11_trj_67.xtc", "12_trj_67.xtc", "68_a.pdb", "68_b.dcd"],
    "ped": ["PED00001e002.pdb.gz", "PED00001e001.cif", "PED00001e0011.pdb", "other.pdb"],
    "idrome": ["Q5/T7/B8/541_1292/top.pdb", "Q5/T7/B8/541_1292/traj.xtc", "P0/top_AA.pdb"],
    "proteinflow": ["b-1.pickle", "sabdab/a-1.pkl", "c.cif.gz", "splits_dict/train.pickle"],
    "structures": ["b/x.pdb", "a.1.ent.gz", "x.cif", ".hidden.pdb", ".hidden/a.pdb"],
    "trajectories": ["b/x.pdb", "b/x.xtc", "b/x_2.dcd", "a.psf", "a.pdb", "long-name.nc"],
}
NAMES = {
    "mdcath": ["1a0aA00_348", "2a0aA00_348"],
    "atlas": ["16pk_A", "1a62_A", "2cvi_B"],
    "gpcrmd": ["67", "68", "b"],
    "ped": ["PED00001e001", "PED00001e002"],
    "idrome": ["P0", "Q5_T7_B8_541_1292"],
    "proteinflow": ["a-1", "b-1", "c"],
    "structures": ["a.1", "b_x", "x"],
    "trajectories": ["a", "b_x"],
}


@pytest.mark.parametrize("source", SOURCES)
def test_listing_looks_at_names_alone(tmp_path, source):
    """Files whose content would be refused are listed, in the order of names; entries can be sent away."""
    for name in FILES[source]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0")
    entries = list_source(source, tmp_path)
    assert [entry.name for entry in entries] == NAMES[source]
    assert pickle.loads(pickle.dumps(entries)) == entries
    for entry in entries:
        assert group_of(entry.source, entry.group)
        assert entry.label == ""
        assert entry.size > 0
        assert all(path.is_file() for path in entry.paths)
        reason = failure(entry)
        assert str(tmp_path) in reason


def test_links_are_followed_once(tmp_path, helix):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.pdb").write_text(helix.pdb)
    raw = tmp_path / "raw"
    (raw / "b").mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere", raw / "a")
    for name in ("circle", "another"):
        os.symlink(raw, raw / "b" / name)
    assert only(list_source("structures", raw)).name == "a_x"


def test_two_entries_of_one_name(tmp_path, helix):
    for name in ("b_c.pdb", "b/c.pdb", "b/c.cif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(helix.pdb)
    for twin, other in (("b_c.pdb", "b/c.cif"), ("b/c.pdb", "b/c.cif")):
        with pytest.raises(InputError, match=r"b_c is in \S+ too; rename or move one of them"):
            list_source("structures", tmp_path)
        (tmp_path / twin).unlink()
        assert (tmp_path / other).is_file()
    assert only(list_source("structures", tmp_path)).name == "b_c"


def test_no_hydrogens(tmp_path, helix):
    """Contacts cannot be told: a failure, never zeros."""
    text = without_hydrogens(helix.pdb)
    models = "".join(f"MODEL {n}\n{text}ENDMDL\n" for n in (1, 2))
    (tmp_path / "PED00001e001.pdb").write_text(models)
    assert "no hydrogens" in failure(only(list_source("ped", tmp_path)))


def test_one_frame(tmp_path, helix):
    (tmp_path / "PED00001e001.pdb").write_text(helix.pdb)
    assert "at least 2 frames" in failure(only(list_source("ped", tmp_path)))


# mdCATH


def write_mdcath(helix, path, layout="{}", text=bytes, box=None, **changes):
    """File of a domain: replicas 0, 2 and 10 at 348 K with three parts of the frames, replica 0 at 450 K with all."""
    topology = helix.topology
    residue = topology.residue_of_atom
    numbers = {"H": 1, "C": 6, "N": 7, "O": 8}
    arrays = {
        "chain": np.array([b"A"] * topology.num_atoms),
        "element": np.array([element.encode() for element in topology.elements]),
        "resid": topology.residue_numbers[residue],
        "resname": np.array([topology.residue_names[row].encode() for row in residue]),
        "z": np.array([numbers[element] for element in topology.elements]),
    }
    lines = [line for line in helix.pdb.splitlines(True) if line.startswith("ATOM")]
    replicas = [("348", "0", 0, 4), ("348", "2", 4, 7), ("348", "10", 7, 9), ("450", "0", 0, 9)]
    with h5py.File(path, "w") as file:
        file.attrs["layout"] = "mdcath-only-protein-v1.0"
        group = file.create_group(path.stem.removeprefix("mdcath_dataset_"))
        group.attrs["numProteinAtoms"] = topology.num_atoms
        group.attrs["numResidues"] = topology.num_residues
        content = "".join(["MODEL        1\n", *lines])
        group["pdbProteinAtoms"] = content.encode() if text is bytes else content
        for name, array in (arrays | changes).items():
            group[name] = array
        for temperature, replica, first, last in replicas:
            target = group.create_group(f"{layout.format(temperature)}/{replica}")
            target["coords"] = helix.angstrom[first:last]
            target["box"] = np.zeros((3, 3)) if box is None else box
            target["rmsd"] = np.zeros(last - first)
    return path


@pytest.mark.parametrize(("layout", "text"), [("{}", bytes), ("sims{}K", str)])
def test_mdcath(tmp_path, helix, layout, text):
    """Both layouts; replicas by number, pooled; one entry for each temperature."""
    write_mdcath(helix, tmp_path / "mdcath_dataset_1a0aA00.h5", layout, text)
    expected = md_features(helix.topology, [angstrom_chunk(helix.angstrom)])
    assert_same(features(only(list_source("mdcath", tmp_path))), expected)
    entries = list_source("mdcath", tmp_path, (450, 348, 320))
    assert [entry.name for entry in entries] == ["1a0aA00_320", "1a0aA00_348", "1a0aA00_450"]
    assert {entry.source for entry in entries} == {"mdCATH"}
    assert_same(features(entries[2]), expected)
    assert "mdcath_dataset_1a0aA00.h5: no simulations at 320 K; it has 348, 450" in failure(entries[0])
    with pytest.raises(InputError, match="no temperature"):
        list_source("mdcath", tmp_path, ())


def test_mdcath_reading(tmp_path, helix):
    """The range counts for each replica; names are those of the file."""
    write_mdcath(helix, tmp_path / "mdcath_dataset_1a0aA00.h5")
    entry = only(list_source("mdcath", tmp_path))
    numbers, xyz = frames(entry, Selection(begin=1, end=2, stride=1))
    assert numbers == [1, 2, 1, 2, 1]
    np.testing.assert_array_equal(xyz, helix.angstrom[[1, 2, 5, 6, 8]])
    numbers, xyz = frames(entry, Selection(stride=2))
    assert numbers == [0, 2, 0, 2, 0]
    np.testing.assert_array_equal(xyz, helix.angstrom[[0, 2, 4, 6, 7]])
    assert "348/2/coords: no frame from 3 on; it has 3" in failure(entry, Selection(begin=3))
    assert "no chain B; it has A" in failure(entry, Selection(chains=("B",)))
    with entry.open(Selection(chains=("A",))) as system:
        assert isinstance(system, Ensemble)
        assert system.topology.atom_names == helix.topology.atom_names


def test_mdcath_reads_in_chunks(tmp_path, helix, monkeypatch):
    monkeypatch.setattr("data_prepare.molecular_dynamics.frames.trajectory.CHUNK_FRAMES", 2)
    write_mdcath(helix, tmp_path / "mdcath_dataset_1a0aA00.h5")
    entry = list_source("mdcath", tmp_path, [450])[0]
    with entry.open(Selection(begin=1, stride=3)) as system:
        chunks = list(system.chunks)
    assert [chunk.numbers.tolist() for chunk in chunks] == [[1, 4], [7]]
    np.testing.assert_array_equal(np.concatenate([c.angstrom for c in chunks]), helix.angstrom[[1, 4, 7]])


def test_mdcath_broken_chain(tmp_path, helix):
    """A residue that left the box comes back; the box is in nm, the coordinates in Angstrom."""
    path = write_mdcath(helix, tmp_path / "mdcath_dataset_1a0aA00.h5", box=np.diag([6.0, 6.0, 6.0]))
    atoms = helix.topology.residue_of_atom == 9
    with h5py.File(path, "r+") as file:
        coords = file["1a0aA00/348/2/coords"]
        xyz = coords[()]
        xyz[1, atoms, 0] += 60.0
        coords[...] = xyz
    _, xyz = frames(only(list_source("mdcath", tmp_path)), Selection())
    np.testing.assert_allclose(xyz, helix.angstrom, atol=1e-4)


def test_mdcath_that_does_not_fit(tmp_path, helix):
    path = tmp_path / "mdcath_dataset_1a0aA00.h5"
    atoms = helix.topology.num_atoms
    resid = helix.topology.residue_numbers[helix.topology.residue_of_atom].copy()
    resid[7] += 1
    for changes, message in (
        ({"z": np.ones(atoms - 1)}, f"pdbProteinAtoms has {atoms} atoms, z {atoms - 1}"),
        ({"z": np.ones(atoms)}, "atom 1 of pdbProteinAtoms is another one in the array z"),
        ({"resid": resid}, "atom 8 of pdbProteinAtoms is another one in the array resid"),
        ({"element": np.array([b"C"] * atoms)}, "atom 1 of pdbProteinAtoms is another one in the array element"),
        ({"resname": np.array([b"GLY"] * atoms)}, "atom 1 of pdbProteinAtoms is another one in the array resname"),
        ({"chain": np.array([b"P"] * atoms)}, None),  # made of segments
    ):
        write_mdcath(helix, path, **changes)
        entry = only(list_source("mdcath", tmp_path))
        if message is None:
            features(entry)
        else:
            assert failure(entry).startswith(f"{path}: {message}")
    path.rename(tmp_path / "mdcath_dataset_9xyzA00.h5")
    assert "no group 9xyzA00 in it; it has 1a0aA00" in failure(only(list_source("mdcath", tmp_path)))


def test_mdcath_damaged(tmp_path, helix):
    path = tmp_path / "mdcath_dataset_1a0aA00.h5"
    whole = write_mdcath(helix, path).read_bytes()
    entry = only(list_source("mdcath", tmp_path))
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert failure(entry).startswith(f"{path}: damaged or not of mdCATH")
    path.unlink()
    assert failure(entry) == f"{path}: no such file"
    for change, message in (
        (lambda group: group["348/2/coords"].write_direct(np.full((3, *helix.nm.shape[1:]), np.nan)), "not finite"),
        (lambda group: group.pop("348/2/coords"), "damaged or not of mdCATH"),
        (lambda group: group.pop("pdbProteinAtoms"), "damaged or not of mdCATH"),
        (lambda group: group.attrs.modify("numProteinAtoms", 7), "numProteinAtoms 7"),
        (lambda group: [group.pop(f"348/{number}") for number in ("0", "2", "10")], "no replicas at 348 K"),
        (lambda group: _replace(group["348/2"], "coords", helix.angstrom[:, :-1]), "expected (frames, 224, 3)"),
    ):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file["1a0aA00"])
        reason = failure(entry)
        assert reason.startswith(f"{path}: ")
        assert message in reason


def _replace(group, name, array):
    del group[name]
    group[name] = array


# ATLAS


def write_atlas(helix, folder, name="16pk_A"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pdb").write_text(helix.pdb)
    helix.save_replicas(folder, *(f"{name}_R{number}.xtc" for number in (1, 2, 10)))
    return folder


def zipped(folder, path, inside=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
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
    return folder


@pytest.mark.parametrize("form", ["zip", "zip of a folder", "folder", "flat", "zip and folder"])
def test_atlas(tmp_path, helix, of_one_trajectory, temporary, form):
    """Replicas are pooled: their features are those of one long trajectory."""
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
    assert_same(features(entry), of_one_trajectory)
    assert not list(temporary.iterdir())
    assert not list(tmp_path.rglob("evil.txt"))
    numbers, _ = frames(entry, Selection(begin=1, end=2))
    assert numbers == [1, 2, 1, 2, 1]
    assert (entry.paths[0].suffix == ".zip") == ("zip" in form)


def test_atlas_temporary_files(tmp_path, helix, temporary):
    """One replica at a time, nothing is left after a failure, and messages name the zip."""
    write_atlas(helix, tmp_path / "unpacked")
    path = zipped(tmp_path / "unpacked", tmp_path / "16pk_A.zip")
    entry = only(list_source("atlas", tmp_path / "16pk_A.zip".removesuffix("16pk_A.zip")))
    with entry.open(Selection()) as system:
        assert system.topology.path == path / "16pk_A.pdb"
        for _ in system.chunks:
            assert len(list(temporary.glob("*/*.xtc"))) == 1
    with contextlib.suppress(KeyError), entry.open(Selection()) as system:
        next(system.chunks)
        raise KeyError("whatever goes wrong with what was read")
    assert failure(entry, Selection(begin=3)).startswith(f"{path}/16pk_A_R2.xtc: no frame from 3 on; it has 3")
    assert failure(entry, Selection(chains=("Z",))).startswith(f"{path}/16pk_A.pdb: no chain Z")
    assert not list(temporary.iterdir())


def test_atlas_replicas_that_are_there(tmp_path, helix, temporary):
    folder = write_atlas(helix, tmp_path / "raw" / "16pk_A")
    (folder / "16pk_A_R2.xtc").unlink()
    helix.save(folder / "16pk_A_prod_R1_fit.xtc", 0, 1)  # of a replica that is there
    numbers, _ = frames(only(list_source("atlas", tmp_path / "raw")), Selection())
    assert numbers == [0, 1, 2, 3, 0, 1]
    for number in ("R1", "R10", "prod_R1_fit"):
        (folder / f"16pk_A_{number}.xtc").unlink()
    assert "entry 16pk_A has no 16pk_A_R1.xtc" in failure(only(list_source("atlas", tmp_path / "raw")))
    zipped(folder, tmp_path / "raw" / "16pk_A.zip")
    assert "16pk_A.zip: no 16pk_A_R1.xtc or other replicas in it" in failure(
        only(list_source("atlas", tmp_path / "raw"))
    )


def test_atlas_damaged_zip(tmp_path, helix, temporary):
    write_atlas(helix, tmp_path / "unpacked")
    path = zipped(tmp_path / "unpacked", tmp_path / "16pk_A.zip")
    whole = path.read_bytes()
    entry = only(list_source("atlas", path.parent))
    path.write_bytes(whole[:-100])
    assert "16pk_A.zip: not a readable zip, download it again" in failure(entry)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("16pk_A_R1.xtc", "")
    assert "16pk_A.zip: no 16pk_A.pdb in it" in failure(entry)
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        for file in sorted((tmp_path / "unpacked").iterdir()):
            archive.write(file, file.name)
        at = archive.getinfo("16pk_A_R10.xtc").header_offset + 500
    damaged = bytearray((tmp_path / "plain.zip").read_bytes())
    damaged[at] ^= 255
    path.write_bytes(damaged)
    assert "16pk_A.zip: 16pk_A_R10.xtc is damaged, download it again (Bad CRC-32" in failure(entry)
    path.unlink()
    assert "no such file" in failure(entry)
    assert not list(temporary.iterdir())


# GPCRmd


def membrane(helix):
    """Atoms around the helix: (residue name, number, chain, segment, atom name, element, mass, Angstrom).

    A calcium ion called CA and a ligand with atoms N and CA have number and chain of protein residues.
    """
    place = np.random.default_rng(0).uniform(-20, 20, (10_000, 3))
    atoms = []

    def add(residue, number, chain, segment, members):
        atoms.extend((residue, number, chain, segment, *member, place[len(atoms)]) for member in members)

    ligand = [("N", "N", 14.0), ("CA", "C", 12.0), ("O1", "O", 16.0), ("H1", "H", 1.0)]
    add("LIG", 3, "A", "LIG", ligand)
    add("CAL", 5, "A", "ION", [("CA", "CA", 40.1)])
    lipid = [("N", "N", 14.0), ("P", "P", 31.0), ("C1", "C", 12.0), ("C11", "C", 12.0), ("C", "C", 12.0)]
    for number in range(1, 4):
        add("POPC", number, "L", "MEMB", lipid)
    for number in range(1, 30):
        add("TIP3", number, "W", "TIP3", WATER)
    return atoms


def write_gpcrmd(helix, folder, topology_names=("system.pdb",)):
    """A system in a membrane: PDB, PSF and three DCD replicas."""
    folder.mkdir(parents=True, exist_ok=True)
    top = helix.topology
    masses = {"H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999}
    protein = [
        (
            top.residue_names[row],
            int(top.residue_numbers[row]),
            "A",
            "PROA",
            name,
            element,
            masses[element],
            xyz,
        )
        for name, element, row, xyz in zip(
            top.atom_names, top.elements, top.residue_of_atom, helix.angstrom[0], strict=True
        )
    ]
    others = membrane(helix)
    pdb, psf = [], []
    for serial, (residue, number, chain, segment, name, element, mass, xyz) in enumerate(protein + others, 1):
        pdb.append(pdb_line(serial, name, residue, chain, number, xyz, element))
        psf.append(f"{serial:10d} {segment:<8} {number:<8} {residue:<8} {name:<8} {'X1':<6} 0.0 {mass:10.4f} 0\n")
    for name in topology_names:
        if name.endswith(".pdb"):
            (folder / name).write_text("".join(pdb) + "END\n")
        else:
            (folder / name).write_text(f"PSF EXT\n\n       1 !NTITLE\n x\n\n{len(psf):10d} !NATOM\n{''.join(psf)}\n")
    still = np.repeat([[atom[-1] for atom in others]], FRAMES, axis=0) / 10
    still += np.random.default_rng(1).normal(0, 0.1, still.shape)
    xyz = np.concatenate([helix.nm, still.astype(np.float32)], axis=1)
    for number, first, last in zip("123", BREAKS[:-1], BREAKS[1:], strict=True):
        with mdtraj.formats.DCDTrajectoryFile(str(folder / f"run_{number}.dcd"), "w") as file:
            file.write(xyz[first:last] * 10)
    return folder


@pytest.mark.parametrize("topologies", [("system.pdb",), ("system.psf",), ("a.psf", "system.pdb")])
def test_gpcrmd(tmp_path, helix, topologies):
    """Lipids, water, ion and ligand are stripped, whatever their atoms, numbers and chains are called."""
    write_gpcrmd(helix, tmp_path / "67", topologies)
    entry = only(list_source("gpcrmd", tmp_path))
    assert (entry.name, entry.source) == ("67", "GPCRmd")
    assert entry.topology.name == topologies[-1]  # PDB before PSF
    with entry.open(Selection()) as system:
        assert system.topology.num_atoms > helix.topology.num_atoms
        assert system.topology.protein.chain_sequences() == helix.topology.protein.chain_sequences()
        assert system.topology.protein.chain_ids == (("A",) if topologies[-1].endswith("pdb") else ("P",))
        assert "CA" in system.topology.elements or topologies[-1].endswith("psf")
        made = md_features(system.topology, system.chunks)
    expected = md_features(helix.topology, [angstrom_chunk(helix.nm * 10)])
    assert_same(made, expected)
    numbers, _ = frames(entry, Selection(stride=3))
    assert numbers == [0, 3, 0, 0]


def test_gpcrmd_flat_and_unclear(tmp_path, helix):
    folder = write_gpcrmd(helix, tmp_path / "system", ("system.pdb", "system.psf"))
    flat = tmp_path / "flat"
    flat.mkdir()
    for source, name in (
        ("system.pdb", "101_dyn_67.pdb"),
        ("system.psf", "102_dyn_67.psf"),
        ("run_1.dcd", "103_trj_67.dcd"),
        ("run_2.dcd", "104_trj_67.dcd"),
        ("system.psf", "68_top.psf"),
        ("run_3.dcd", "68_run.dcd"),
        ("system.pdb", "69_top.pdb"),
        ("run_3.dcd", "70_run.dcd"),
    ):
        (flat / name).write_bytes((folder / source).read_bytes())
    entries = {entry.name: entry for entry in list_source("gpcrmd", flat)}
    assert list(entries) == ["67", "68", "69", "70"]
    assert frames(entries["67"], Selection())[0] == [0, 1, 2, 3, 0, 1, 2]
    assert frames(entries["68"], Selection())[0] == [0, 1]
    assert "entry 69 has no .dcd or .xtc file" in failure(entries["69"])
    assert "entry 70 has no .psf or .pdb file" in failure(entries["70"])
    (folder / "crystal.pdb").write_text(helix.pdb)
    (entry,) = (entry for entry in list_source("gpcrmd", tmp_path) if entry.name == "system")
    assert "several topologies (crystal.pdb, system.pdb)" in failure(entry)


# PED


def two_chains(helix, frame):
    """PDB text of a frame in two copies, chains A and B."""
    topology = helix.topology
    lines = []
    for chain, shift in (("A", 0.0), ("B", 12.0)):
        for name, element, row, xyz in zip(
            topology.atom_names, topology.elements, topology.residue_of_atom, helix.angstrom[frame], strict=True
        ):
            number, residue = int(topology.residue_numbers[row]), topology.residue_names[row]
            lines.append(pdb_line(len(lines) + 1, name, residue, chain, number, xyz + np.float32(shift), element))
        lines.append("TER\n")
    return "".join(lines)


@pytest.mark.parametrize("form", ["pdb", "pdb.gz", "cif"])
def test_ped(tmp_path, helix, form):
    """Models are frames, chains are all there."""
    text = "".join(f"MODEL {n:8d}\n{two_chains(helix, n - 1)}ENDMDL\n" for n in range(1, 4)) + "END\n"
    path = tmp_path / f"PED00001e001.{form}"
    if form == "cif":
        gemmi.read_pdb_string(text).make_mmcif_document().write_file(str(path))
    elif form == "pdb.gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    entry = only(list_source("ped", tmp_path))
    assert (entry.name, entry.source) == ("PED00001e001", "PED")
    assert entry.paths == (path,)
    with entry.open(Selection()) as system:
        assert isinstance(system, Ensemble)
        assert system.topology.protein.chain_sequences() == ["AEAAAKEAAAKEAAAKA"] * 2
    numbers, xyz = frames(entry, Selection(begin=1))
    assert numbers == [1, 2]
    both = np.concatenate([helix.angstrom, helix.angstrom + np.float32(12)], axis=1)[1:3]
    np.testing.assert_allclose(xyz, both, atol=6e-4)
    second = features(entry, Selection(chains=("B",)))
    rounded = np.round(helix.angstrom[:3] + np.float32(12), 3)
    expected = md_features(helix.topology, [angstrom_chunk(rounded)])
    np.testing.assert_allclose(second.pair, expected.pair, atol=1e-4)
    assert features(entry).pair.shape[0] == 2 * len(second.residue)


# IDRome


def c_alpha(helix, folder):
    """A region as released: C-alpha beads in a periodic box."""
    folder.mkdir(parents=True, exist_ok=True)
    beads = [line for line in helix.pdb.splitlines(True) if line[12:16] == " CA "]
    (folder / "top.pdb").write_text("".join(beads) + "END\n")
    atoms = [i for i, name in enumerate(helix.topology.atom_names) if name == "CA"]
    trajectory = mdtraj.Trajectory(helix.nm[:, atoms], mdtraj.load_topology(str(folder / "top.pdb")))
    trajectory.unitcell_lengths, trajectory.unitcell_angles = np.full((FRAMES, 3), 20.0), np.full((FRAMES, 3), 90.0)
    trajectory.save(str(folder / "traj.xtc"))
    return folder


def test_idrome(tmp_path, helix, of_one_trajectory):
    """C-alpha beads are refused with a hint; what was back-mapped beside them is read."""
    region = c_alpha(helix, tmp_path / "IDRome" / "Q5" / "T7" / "B8" / "541_1292")
    entry = only(list_source("idrome", tmp_path / "IDRome"))
    assert (entry.name, entry.source) == ("Q5_T7_B8_541_1292", "IDRome")
    assert failure(entry) == (
        f"{region}/top.pdb: C-alpha beads, not all atoms; back-map it with cg2all to top_AA.pdb and traj_AA.xtc in its "
        "folder"
    )
    (region / "top_AA.pdb").write_text(helix.pdb)
    assert "C-alpha beads" in failure(only(list_source("idrome", tmp_path)))  # its trajectory is not there
    helix.save(region / "traj_AA.xtc")
    entry = only(list_source("idrome", tmp_path / "IDRome"))
    assert_same(features(entry), of_one_trajectory)
    assert frames(entry, Selection(begin=2, end=6, stride=3))[0] == [2, 5]
    assert only(list_source("idrome", region)).name == "541_1292"


def test_idrome_all_atoms_as_released(tmp_path, helix, of_one_trajectory):
    (tmp_path / "top.pdb").write_text(helix.pdb)
    assert "has only top.pdb; a topology and its trajectory are needed" in failure(
        only(list_source("idrome", tmp_path))
    )
    helix.save(tmp_path / "traj.xtc")
    assert_same(features(only(list_source("idrome", tmp_path))), of_one_trajectory)
    (tmp_path / "top.pdb").write_text(without_hydrogens(helix.pdb))
    heavy = [i for i, element in enumerate(helix.topology.elements) if element != "H"]
    trajectory = mdtraj.load(str(tmp_path / "traj.xtc"), top=str(helix.path)).atom_slice(heavy)
    trajectory.save(str(tmp_path / "traj.xtc"))
    assert "no hydrogens" in failure(only(list_source("idrome", tmp_path)))


# ProteinFlow


def proteinflow_chains(topology, xyz):
    """Entry of the release: chain H with two unresolved residues and a modified one, chain L whole."""
    backbone = np.array(
        [[xyz[atoms[name]] for name in ("N", "C", "CA", "O")] for atoms in topology.protein.atoms_by_name], np.float32
    )
    length = len(backbone)
    msk = np.ones(length, int)
    msk[[0, 5]] = 0
    crd = backbone.copy()
    crd[msk == 0] = 0
    seq = topology.protein.chain_sequences()[0]
    modified = seq[:2] + "O" + seq[3:]
    sides = np.zeros((length, 10, 3))
    cdr = np.array(["-"] * length)
    return {
        "H": {"crd_bb": crd, "crd_sc": sides, "msk": msk, "seq": modified, "cdr": cdr},
        "L": {"crd_bb": backbone + 15, "crd_sc": sides, "msk": np.ones(length), "seq": seq, "cdr": cdr},
    }


@pytest.fixture
def complex_of_two(helix):
    topology, xyz = read_structure(helix.path)
    protein = topology.protein
    return proteinflow_chains(topology, xyz[np.searchsorted(topology.file_index, protein.file_index)])


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_proteinflow(tmp_path, complex_of_two, protocol):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "1abc-1.pickle").write_bytes(pickle.dumps(complex_of_two, protocol))
    entry = only(list_source("proteinflow", tmp_path))
    assert (entry.name, entry.source) == ("1abc-1", "proteinflow_pdb")
    with entry.open(Selection()) as system:
        topology, xyz = system
        assert isinstance(system, Structure)
    length = len(complex_of_two["L"]["seq"])
    assert topology.chain_ids == ("H", "L")
    assert topology.chain_lengths == [length - 2, length]
    assert topology.atom_names[:5] == ("N", "CA", "C", "O", "N")
    assert topology.elements[:4] == ("N", "C", "C", "O")
    assert topology.residue_names[:3] == ("GLU", "UNK", "ALA")
    assert topology.residue_numbers[:5].tolist() == [2, 3, 4, 5, 7]
    sequences, places = topology.full_sequences()
    assert sequences == ["AEXAAKEAAAKEAAAKA", "AEAAAKEAAAKEAAAKA"]
    assert np.setdiff1d(np.arange(2 * length), places).tolist() == [0, 5]
    carbon_alpha = [i for i, name in enumerate(topology.atom_names) if name == "CA"]
    expected = [complex_of_two[chain]["crd_bb"][complex_of_two[chain]["msk"] != 0, 2] for chain in "HL"]
    np.testing.assert_array_equal(xyz[carbon_alpha], np.concatenate(expected))
    with entry.open(Selection(chains=("L",))) as system:
        assert system.topology.chain_ids == ("L",)
        np.testing.assert_array_equal(system.xyz[1::4], complex_of_two["L"]["crd_bb"][:, 2])


def test_proteinflow_sources(tmp_path, complex_of_two, helix):
    """SAbDab by the path; a pickle has the normal modes of the PDB file of its coordinates."""
    raw = tmp_path / "proteinflow"
    (raw / "SAbDab_2023" / "valid").mkdir(parents=True)
    (raw / "SAbDab_2023" / "valid" / "b.pkl").write_bytes(pickle.dumps({"A": complex_of_two["L"]}))
    (raw / "SAbDab_2023" / "a.pdb.gz").write_bytes(gzip.compress(helix.pdb.encode()))
    (raw / "c.pdb").write_text(helix.pdb)
    entries = list_source("proteinflow", raw)
    assert [(entry.name, entry.source) for entry in entries] == [
        ("a", "proteinflow_sabdab"),
        ("b", "proteinflow_sabdab"),
        ("c", "proteinflow_pdb"),
    ]
    assert {entry.source for entry in list_source("proteinflow", raw / "SAbDab_2023")} == {"proteinflow_sabdab"}
    modes = []
    for entry in entries:
        with entry.open(Selection()) as system:
            modes.append(nma_features_of(*system)[1])
    np.testing.assert_allclose(modes[1].gnm_msf, modes[0].gnm_msf, rtol=1e-3)
    np.testing.assert_array_equal(modes[2].gnm_msf, modes[0].gnm_msf)


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


def test_proteinflow_refused(tmp_path, complex_of_two, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chain = complex_of_two["L"]
    length = len(chain["seq"])
    path = tmp_path / "x.pickle"
    for content, message in (
        ({"H": Attack()}, r"x\.pickle: names .*system"),
        ([chain], "not a ProteinFlow entry"),
        ({}, "not a ProteinFlow entry"),
        ({"H": [1]}, "chain H: not a ProteinFlow chain"),
        ({"H": chain | {"seq": 5}}, "chain H: not a ProteinFlow chain"),
        ({"H": {"seq": "AA", "msk": np.ones(2)}}, "chain H: not a ProteinFlow chain"),
        ({"H": chain | {"msk": np.ones(3)}}, rf"chain H: crd_bb \({length}, 4, 3\) and msk \(3,\) do not fit {length}"),
        ({"H": chain | {"crd_bb": np.full((length, 4, 3), "x")}}, "chain H: crd_bb or msk are not numbers"),
        ({"H": chain | {"msk": np.zeros(length)}}, "no residue is resolved"),
    ):
        path.write_bytes(pickle.dumps(content))
        entry = only(list_source("proteinflow", tmp_path))
        with pytest.raises(InputError, match=message) as error, entry.open(Selection()):
            pass
        assert str(error.value).startswith(str(path))
    assert os.listdir(tmp_path) == ["x.pickle"]


# plain folders


def test_structures(tmp_path, examples):
    (tmp_path / "a").mkdir()
    source = examples / "structures" / "1ubi_A.pdb.gz"
    (tmp_path / "a" / "1ubi.pdb.gz").write_bytes(source.read_bytes())
    (tmp_path / "two.pdb").write_bytes(gzip.decompress((examples / "structures" / "1hvr_AB.pdb.gz").read_bytes()))
    first, second = list_source("structures", tmp_path)
    assert (first.name, first.source, first.group) == ("a_1ubi", "structures", "Proteinflow")
    topology, xyz = read_structure(source)
    with first.open(Selection()) as system:
        assert isinstance(system, Structure)
        assert system.topology.atom_names == topology.atom_names
        np.testing.assert_array_equal(system.xyz, xyz)
    with second.open(Selection(chains=("B",))) as system:
        assert system.topology.chain_ids == ("B",)
        assert len(system.xyz) == system.topology.num_atoms


def test_trajectories(tmp_path, helix, of_one_trajectory):
    """Trajectories go to the topology with the longest name that theirs begins with, and are pooled."""
    sub = tmp_path / "runs"
    sub.mkdir()
    for name in ("x.pdb", "x.psf", "x_1.pdb", "only/top.pdb"):
        (sub / name).parent.mkdir(exist_ok=True)
        (sub / name).write_text(helix.pdb)
    helix.save_replicas(sub, "x.xtc", "x-b.xtc", "x.c.xtc")
    helix.save(sub / "x_1_a.xtc", 0, 2)
    helix.save(sub / "x_1.dcd", 0, 3)
    helix.save(sub / "only" / "anything.xtc")
    entries = list_source("trajectories", tmp_path)
    assert [entry.name for entry in entries] == ["runs_only_top", "runs_x", "runs_x_1"]
    assert {entry.group for entry in entries} == {"ATLAS_GPCRmd_PED_mdCATH"}
    assert entries[1].topology.suffix == ".pdb"
    assert [path.name for path in entries[1].trajectories] == ["x-b.xtc", "x.c.xtc", "x.xtc"]
    assert [path.name for path in entries[2].trajectories] == ["x_1.dcd", "x_1_a.xtc"]
    assert_same(features(entries[0]), of_one_trajectory)
    assert frames(entries[1], Selection(stride=2))[0] == [0, 2, 0, 0, 2]


def test_trajectories_that_are_unclear(tmp_path, helix):
    for name in ("x.pdb", "y.pdb"):
        (tmp_path / name).write_text(helix.pdb)
    helix.save(tmp_path / "x.xtc", 0, 2)
    with pytest.warns(InputWarning, match=rf"{tmp_path}: left out without a trajectory: y\.pdb"):
        assert only(list_source("trajectories", tmp_path)).name == "x"
    helix.save(tmp_path / "xy.xtc", 0, 2)  # x is not followed by a separator
    with pytest.raises(InputError, match=r"xy\.xtc: its topology is not clear \(2 topologies .* in a manifest"):
        list_source("trajectories", tmp_path)
    (tmp_path / "xy.xtc").unlink()
    helix.save(tmp_path / "alone" / "z.xtc", 0, 2)
    with pytest.raises(InputError, match=r"z\.xtc: its topology is not clear \(none in its folder\)"):
        list_source("trajectories", tmp_path)


def test_manifest(tmp_path, helix, of_one_trajectory):
    """Several trajectories are replicas; a multi-model file is its own trajectory."""
    helix.save_replicas(tmp_path / "runs", "1.xtc", "2.xtc", "3.xtc")
    (tmp_path / "x.pdb").write_text(helix.pdb)
    models = "".join(f"MODEL {n}\n{two_chains(helix, n)}ENDMDL\n" for n in (0, 1))
    (tmp_path / "m.pdb").write_text(models)
    head = "name,source,label,topology,trajectory\n"
    rows = [
        "r,mdCATH,train,x.pdb,runs/1.xtc; runs/2.xtc;runs/3.xtc",
        "m,PED,test,m.pdb,m.pdb",
        "s,Proteinflow,test,x.pdb,",
    ]
    path = tmp_path / "entries.csv"
    path.write_text(head + "\n".join(rows))
    pooled, ensemble, structure = read_manifest(path)
    assert all(isinstance(entry, FileEntry) for entry in (pooled, ensemble, structure))
    assert (pooled.name, pooled.source, pooled.label) == ("r", "mdCATH", "train")
    assert (ensemble.label, structure.label) == ("test", "test")
    assert_same(features(pooled), of_one_trajectory)
    assert frames(ensemble, Selection())[0] == [0, 1]
    with structure.open(Selection()) as system:
        assert isinstance(system, Structure)
    path.write_text(head + "s,Proteinflow,,x.pdb,")
    assert [entry.label for entry in read_manifest(path)] == [""]
    for row, message in (
        ("a,PED,train,x.pdb, ; ", "structures belong to"),
        ("a,Proteinflow,train,x.pdb,a.xtc;b.xtc", "structures belong to"),
        ("a,PED,train,,x.xtc", "no topology"),
        ("r,PED,train,x.pdb,x.xtc\nr,PED,train,x.pdb,x.xtc", "names are unique"),
        ("a/b,PED,train,x.pdb,x.xtc", "without '/'"),
        ("a,XYZ,train,x.pdb,x.xtc", "unknown source XYZ"),
        ("a,PED,valid,x.pdb,x.xtc", "label valid"),
        ("a,PED,train,x.pdb,x.xtc\nb,PED,,x.pdb,x.xtc", "some have none"),
    ):
        path.write_text(head + row)
        with pytest.raises(InputError, match=message):
            read_manifest(path)
    path.write_text(head)
    with pytest.raises(InputError, match="no entries"):
        read_manifest(path)
