"""Ensembles as generating programs write them: one entry each, the same features as those of one trajectory."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
from source_files import failure, frames, only

from data_prepare.errors import InputWarning
from data_prepare.pipeline.extraction import entry_features
from data_prepare.sources.entry import Selection
from data_prepare.sources.registry import list_source

CHOSEN = [0, 2, 4, 6, 8]  # frames of the helix


def without_hydrogens(text):
    return "".join(line for line in text.splitlines(True) if line[76:78].strip() != "H")


def write_samples(helix, folder, names, change=lambda k, text: text):
    """A frame of the helix per file, in the format of its suffix; `change` takes the PDB text."""
    for k, (frame, name) in enumerate(zip(CHOSEN, names, strict=False)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = change(k, helix.model(frame) + "END\n")
        if path.suffix == ".cif":
            structure = gemmi.read_pdb_string(text)
            structure.setup_entities()
            structure.assign_label_seq_id()
            path.write_text(structure.make_mmcif_document().as_string())
        else:
            path.write_text(text)


PROGRAMS = {
    "boltz": ("predictions/x/x_model_{}.cif", "predictions_x"),
    "server": ("fold_x_model_{}.cif", "fold_x"),
    "alphafold3": ("x/seed-1_sample-{}/model.cif", "x"),
    "alphafold3 new": ("x/seed-12_sample-{0}/x_seed-12_sample-{0}_model.cif", "x"),
    "alphafold3 flat": ("y/x_seed-12_sample-{}_model.cif", "y_x"),
    "chai": ("x/pred.model_idx_{}.cif", "x"),
    "chai trunks": ("x/trunk_{}/pred.model_idx_0.cif", "x"),
    "colabfold": ("x_unrelaxed_rank_00{}_alphafold2_ptm_model_4_seed_000.pdb", "x"),
    "colabfold old": ("x_unrelaxed_rank_{}_model_3.pdb", "x"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_structure_per_sample(tmp_path, helix, program):
    """Pooled; the features are those of the frames in a trajectory."""
    form, name = PROGRAMS[program]
    write_samples(helix, tmp_path, [form.format(k) for k in range(len(CHOSEN))])
    if program.startswith("alphafold3 new"):
        write_samples(helix, tmp_path, ["x/x_model.cif"])  # a copy of the best one
    entry = only(list_source("ensembles", tmp_path))
    assert (entry.name, entry.group) == (name, "ATLAS_GPCRmd_PED_mdCATH")
    numbers, xyz = frames(entry)
    assert numbers == list(range(len(CHOSEN)))
    np.testing.assert_allclose(xyz, helix.angstrom[CHOSEN][:, helix.topology.protein_atoms], atol=6e-4)


def test_forms_of_an_ensemble_have_the_same_features(tmp_path, helix):
    """Samples in files, models in a file, and a trajectory beside a topology of another name."""
    write_samples(helix, tmp_path / "a", [f"a_model_{k}.cif" for k in range(5)])
    (tmp_path / "b.pdb").write_text("".join(f"MODEL {k}\n{helix.model(k)}ENDMDL\n" for k in CHOSEN))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "topology.pdb").write_text(helix.model(0))
    helix.save(tmp_path / "c" / "samples.xtc", xyz=helix.nm[CHOSEN])
    entries = list_source("ensembles", tmp_path)
    assert [entry.name for entry in entries] == ["a", "b", "c"]
    a, b, c = (entry_features(entry, Selection()) for entry in entries)
    for found, tolerance in ((b, 1e-6), (c, 0.02)):  # 0.01 A of an XTC
        assert a.modify_seq == found.modify_seq
        np.testing.assert_allclose(a.residue[:, :3], found.residue[:, :3], atol=tolerance)
    np.testing.assert_array_equal(a.pair, b.pair)
    np.testing.assert_allclose(a.pair[..., -1], c.pair[..., -1], atol=0.03)


def test_atoms_in_another_order(tmp_path, helix):
    """Within residues, and chains too; the features do not depend on it."""

    def two_chains(k, text):
        lines = [line for line in text.splitlines(True) if line.startswith("ATOM")]
        a, b = lines, [f"{line[:21]}B{line[22:30]}{float(line[30:38]) + 30:8.3f}{line[38:]}" for line in lines]
        residues = [
            [line for line in chain if line[22:26] == number]
            for chain in (a, b)
            for number in dict.fromkeys(line[22:26] for line in chain)
        ]
        random = np.random.default_rng(k)
        if k:
            residues = [[residue[at] for at in random.permutation(len(residue))] for residue in residues]
        halves = residues[: len(residues) // 2], residues[len(residues) // 2 :]
        return "".join(
            line for half in (halves if k % 2 == 0 else halves[::-1]) for residue in half for line in residue
        )

    write_samples(helix, tmp_path / "x", [f"x_model_{k}.pdb" for k in range(5)], two_chains)
    write_samples(helix, tmp_path / "y", [f"y_model_{k}.pdb" for k in range(5)], lambda k, text: two_chains(0, text))
    x, y = (entry_features(entry, Selection()) for entry in list_source("ensembles", tmp_path))
    assert x.modify_seq.count("<eos><cls>") == 1
    np.testing.assert_array_equal(x.residue, y.residue)
    np.testing.assert_array_equal(x.pair, y.pair)
    entry = list_source("ensembles", tmp_path)[0]
    for chains, shift in ((("A",), 0), (("B",), 30)):
        _, xyz = frames(entry, Selection(chains=chains, begin=1, stride=2))
        expected = helix.angstrom[CHOSEN[1::2]] + np.float32([shift, 0, 0])
        np.testing.assert_allclose(xyz.mean(axis=1), expected.mean(axis=1), atol=1e-3)
        assert xyz.shape == expected.shape
    failure(entry, "no chain C", selection=Selection(chains=("C",)))


@pytest.mark.parametrize(
    ("change", "atoms"),
    [
        (lambda k, text: text, None),
        (lambda k, text: text if k else without_hydrogens(text), "heavy"),
        (lambda k, text: text if k != 2 else without_hydrogens(text), "heavy"),
        # other names: backbone hydrogen bonds would be missing if the other hydrogens stayed
        (lambda k, text: text if k != 2 else text.replace(" H   ", " HN  "), "heavy"),
        (lambda k, text: text if k else text.replace(" HA  GLU A   2", " HX  GLU A   2"), "all but HA of GLU 2"),
    ],
)
def test_atoms_that_some_samples_lack(tmp_path, helix, change, atoms):
    write_samples(helix, tmp_path, [f"x_model_{k}.pdb" for k in range(5)], change)
    entry = only(list_source("ensembles", tmp_path))
    names, elements = np.array(helix.topology.atom_names), np.array(helix.topology.elements)
    of_two = helix.topology.residue_of_atom == helix.topology.residue_numbers.tolist().index(2)
    kept = {"heavy": elements != "H", None: elements != ""}.get(atoms, ~((names == "HA") & of_two))
    if atoms is None:
        found = frames(entry)[1]
    else:
        with pytest.warns(InputWarning, match=f"using {kept.sum()}"):
            found = frames(entry)[1]
    np.testing.assert_allclose(found, helix.angstrom[CHOSEN][:, kept], atol=6e-4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda text: text.replace("GLU A   2", "ASP A   2"), ("residue 2 of chain A is D, not E",)),
        (lambda text: "".join(text.splitlines(True)[30:]), ("residues, not",)),
        (lambda text: text.replace(" A  ", " B  "), ("chains B, not A",)),
        (lambda text: text.replace(" N   ALA A   5", " N9  ALA A   5"), ("lacks N, CA and C",)),
        (
            lambda text: "".join(
                line for line in text.splitlines(True) if line[12:16].strip() in ("N", "CA", "C", "O")
            ),
            ("heavy atoms",),
        ),
        (lambda text: "", ("no atoms",)),
    ],
)
def test_samples_that_do_not_fit(tmp_path, helix, change, named):
    """One line with both files; the other entries are not concerned."""
    names = [f"x_model_{k}.pdb" for k in range(5)]
    write_samples(helix, tmp_path, names, lambda k, text: change(text) if k == 3 else text)
    failure(only(list_source("ensembles", tmp_path)), tmp_path / names[3], *named)


def test_a_broken_sample_is_named(tmp_path, helix):
    names = [f"x_model_{k}.pdb" for k in range(5)]
    zeros = f"{0:8.3f}" * 3
    write_samples(
        helix,
        tmp_path,
        names,
        lambda k, text: (
            text
            if k != 3
            else "".join(line[:30] + zeros + line[54:] for line in text.splitlines(True) if line.startswith("ATOM"))
        ),
    )
    entry = only(list_source("ensembles", tmp_path))
    with entry.open(Selection()) as system, pytest.warns(InputWarning, match="left out 1 of 5"):
        assert [number for chunk in system.chunks for number in chunk.numbers] == [0, 1, 2, 4]
    assert [(frame.source, frame.frame) for frame in system.left_out] == [(str(tmp_path / names[3]), 0)]


def test_a_single_structure_is_no_ensemble(tmp_path, helix):
    (tmp_path / "x.pdb").write_text(helix.pdb)
    write_samples(helix, tmp_path, ["y_model_0.pdb"])
    for entry in list_source("ensembles", tmp_path):
        failure(entry, entry.path, "is no ensemble")


@pytest.mark.parametrize("form", ["backbone", "heavy"])
def test_bioemu(tmp_path, shared, form):
    """Real samples; what their atoms do not carry is left to the features."""
    source = shared / "cases" / "backbone_ensemble" / form
    (tmp_path / "topology.pdb").write_bytes(source.with_suffix(".pdb").read_bytes())
    (tmp_path / "samples.xtc").write_bytes(source.with_suffix(".xtc").read_bytes())
    entry = only(list_source("ensembles", tmp_path))
    assert entry.name == tmp_path.name
    assert len(frames(entry)[0]) > 4
