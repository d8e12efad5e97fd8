"""Contacts of difficult and random systems against the brute-force oracle.

The oracle reads lists of atoms, the fast code a PDB file of them, with the same frames. Lines may differ only where
rounding decides: between what the oracle finds with all limits 1e-6 Angstrom and degrees narrower and wider.
"""

from __future__ import annotations

import contact_oracle
import mdtraj
import numpy as np
import pytest
from contact_systems import angstrom_chunk, fast_lines
from hypothesis import given, settings
from hypothesis import strategies as st
from random_systems import chains, pdb_text, random_system, shaken
from refusals import refused

from data_prepare.molecular_dynamics import get_dynamic_contacts
from data_prepare.molecular_dynamics.contacts.search import atom_labels
from data_prepare.molecular_dynamics.features.carried import missing_properties
from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.structure.readers import read_topology


def kinds_of(itypes):
    """Kinds of lines for names of interactions."""
    meaning = {"all": contact_oracle.KINDS, "hb": ("hbbb", "hbsb", "hbss")}
    return {kind for name in itypes for kind in meaning.get(name, (name,))}


def check(folder, atoms, frames, limits, itypes, **style):
    """The lines of the oracle are those of the fast code; features count what the lines say."""
    path = folder / "system.pdb"
    path.write_text(pdb_text(atoms, frames[0], **style))
    topology = read_topology(path)
    assert atom_labels(topology) == [atom.label for atom in atoms]
    found = fast_lines(topology, frames, limits, itypes)
    kinds = kinds_of(itypes)
    by_letter = (limits or {}).get("chains_by_letter", False)
    chains = None if by_letter else topology.chain_of_residue[topology.residue_of_atom].tolist()
    expected = contact_oracle.contact_lines(atoms, frames, limits, kinds=kinds, chains=chains)
    if found != expected:
        certain = contact_oracle.contact_lines(atoms, frames, limits, (-1e-6, -1e-6), kinds, chains)
        possible = contact_oracle.contact_lines(atoms, frames, limits, (1e-6, 1e-6), kinds, chains)
        assert certain <= found <= possible
    elif limits is None and itypes == ("all",) and topology.is_protein.sum() >= 3 and not missing_properties(topology):
        pair = md_features(topology, [angstrom_chunk(frames)]).pair[..., :9] * len(frames)
        by_hand = contact_oracle.contact_counts(atoms, frames, chains=chains)
        if len(set(atom_labels(topology))) < topology.num_atoms:  # the two atoms of a line have no order then
            pair, by_hand = pair + pair.swapaxes(0, 1), by_hand + by_hand.swapaxes(0, 1)
        np.testing.assert_allclose(pair, by_hand, atol=1e-5)


def split(lines):
    """Frame, kind and for each atom (chain, residue name, number with code, atom name) of lines."""
    for line in lines:
        frame, kind, *labels = line.split("\t")
        yield int(frame), kind, *(tuple(label.split(":")) for label in labels)


# ---- random systems ----------------------------------------------------------------------------------------------

limits_drawn = st.none() | st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 4) if isinstance(value, int) else st.floats(value / 2, 1.6 * value)
        for name, value in contact_oracle.LIMITS.items()
    }
    | {"chains_by_letter": st.booleans()},
)


random_systems = given(
    drawn=chains,
    solvent=st.integers(0, 6),
    lose=st.sampled_from([0.0, 0.0, 0.03, 0.3]),
    limits=limits_drawn,
    itypes=st.sampled_from([*[("all",)] * 3, ("hb", "sb"), ("ps", "hp"), ("vdw",), ("hbss", "ts"), ("pc",)]),
    seed=st.integers(0, 2**32 - 1),
)


def check_random(folder, drawn, solvent, lose, limits, itypes, seed):
    rng = np.random.default_rng(seed)
    atoms, xyz = random_system(drawn, solvent, lose, rng)
    if not atoms:
        return
    frames = shaken(xyz, 3, 0.25, seed).round(3)  # as precise as the file
    groups = [[atoms[i] for i in group] for group in contact_oracle.residues_of(atoms)]
    protein = [atom for group in groups if {"N", "CA", "C"} <= {atom.name for atom in group} for atom in group]
    bonds = kinds_of(itypes) & {"hbbb", "hbsb", "hbss"}
    if not protein or (bonds and all(atom.element != "H" for atom in protein)):
        path = folder / "system.pdb"
        path.write_text(pdb_text(atoms, frames[0]))
        refused(lambda: fast_lines(read_topology(path), frames, limits, itypes), path)
        return
    check(folder, atoms, frames, limits, itypes, elements="left" if seed % 2 else "right")


def test_random_systems(tmp_path):
    settings(max_examples=60, deadline=None)(random_systems(check_random))(tmp_path)


# ---- the command ------------------------------------------------------------------------------------------------


def dense_system():
    """Residues packed at random, with contacts of all nine types."""
    rng = np.random.default_rng(0)
    names = ["ARG", "PHE", "GLU", "TRP", "LYS", "TYR", "LEU", "VAL", "HIS", "ASP"]
    members = [(names[k], k, 2, "", rng.uniform(2.5, 5)) for k in rng.permutation(10).tolist()]
    return random_system([("A", members), ("B", members)], 3, 0.0, rng)


@pytest.mark.parametrize(
    "options",
    [
        {"beg": 3, "end": 5, "stride": 1, "cores": 2},
        {"stride": 4, "vdw_epsilon": 0.2, "vdw_res_diff": 3, "hbond_res_diff": 0},
        {"beg": 1, "stride": 2, "itypes": ("hp", "ts", "hb"), "ts_cutoff_dist": 6.5, "hbond_cutoff_ang": 50.0},
    ],
)
def test_command(tmp_path, options):
    """Frames keep their numbers, and the first frame of the trajectory decides, even if it is not used."""
    atoms, xyz = dense_system()
    frames = shaken(xyz, 7, 0.1, seed=1)
    frames[0] += np.random.default_rng(5).normal(0, 0.15, xyz.shape)  # carbons touch, hydrogens change owners
    (tmp_path / "t.pdb").write_text(pdb_text(atoms, xyz))
    with mdtraj.formats.DCDTrajectoryFile(str(tmp_path / "t.dcd"), "w") as file:
        file.write(frames)
    limits = {name: value for name, value in options.items() if name in contact_oracle.LIMITS}
    words = []
    for name, value in ({"itypes": ("all",)} | options).items():
        words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    paths = ["--topology", tmp_path / "t.pdb", "--trajectory", tmp_path / "t.dcd", "--output", tmp_path / "c.tsv"]
    get_dynamic_contacts.main([*words, *map(str, paths)])
    header, _, *lines = (tmp_path / "c.tsv").read_text().splitlines()
    beg, end, stride = options.get("beg", 0), options.get("end", 6), options.get("stride", 1)
    used = range(beg, end + 1, stride)
    asked = options.get("itypes", ("hp", "sb", "pc", "ps", "ts", "vdw", "hb"))
    assert header == (
        f"# total_frames:{len(used)} beg:{beg} end:{end} stride:{stride} interaction_types:{','.join(asked)}"
    )
    expected = contact_oracle.contact_lines(atoms, frames, limits, kinds=kinds_of(asked))
    assert {kind for _, kind, *_ in split(expected)} == kinds_of(asked)
    assert len(lines) == len(set(lines))
    assert set(lines) == {line for line in expected if int(line.split("\t")[0]) in used}
    numbers = [int(line.split("\t")[0]) for line in lines]
    assert numbers == sorted(numbers)
