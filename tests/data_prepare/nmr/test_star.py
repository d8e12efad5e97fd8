"""NMR-STAR depositions, written with pynmrstar: several entities, several lists, isotope labelling, damage."""

from __future__ import annotations

import gzip
from contextlib import nullcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused

from data_prepare.errors import InputWarning
from data_prepare.nmr.convert import convert_star
from data_prepare.nmr.nmr_star import ISOTOPES, THREE_LETTERS, codes_of_deposition, read_star

pynmrstar = pytest.importorskip("pynmrstar", reason="pynmrstar is absent")
NATURAL = "[U-99% 13C; U-99% 15N]"
SEQUENCE = "MGAPLKVEGS"
SHIFT_TAGS = ["Entity_assembly_ID", "Entity_ID", "Comp_index_ID", "Seq_ID", "Comp_ID", "Atom_ID", "Val"]


def loop(category, tags, rows):
    made = pynmrstar.Loop.from_scratch(category)
    made.add_tag(tags)
    made.data = [[str(value) for value in row] for row in rows]
    return made


def frame(name, category, prefix, tags=(), loops=()):
    made = pynmrstar.Saveframe.from_scratch(name, tag_prefix=prefix)
    for tag, value in [("Sf_category", category), ("Sf_framecode", name), *tags]:
        made.add_tag(tag, value)
    for one in loops:
        made.add_loop(one)
    return made


def components(sequence):
    """Names of components; `J` is a phosphoserine."""
    return [THREE_LETTERS.get(letter, "SEP") for letter in sequence]


def entity(number, sequence, kind="polypeptide(L)", first=1, name=None, index=True):
    rows = [[k, component, number] for k, component in enumerate(components(sequence), first)]
    tags = [("ID", number), ("Name", name or f"protein{number}"), ("Polymer_type", kind)]
    tags.append(("Polymer_seq_one_letter_code", sequence.replace("J", "(SEP)") or "."))
    loops = [loop("_Entity_comp_index", ["ID", "Comp_ID", "Entity_ID"], rows)] if index else []
    return frame(f"entity_{number}", "entity", "Entity", tags, loops)


def atoms(number, sequence, assigned, first=1):
    """Rows of shifts. Mark of a residue: A H, N, CA; a HN, N; h without N; n without H; ? N without value; blank CA."""
    wanted = {"A": "H N CA", "a": "HN N", "h": "H CA", "n": "N CA", " ": "CA", "?": "H N"}
    return [
        [1, number, k, k, component, atom, "." if (mark, atom) == ("?", "N") else "120.0"]
        for k, (component, mark) in enumerate(zip(components(sequence), assigned, strict=True), first)
        for atom in wanted[mark].split()
    ]


def shifts(number, rows):
    name = f"assigned_chemical_shifts_{number}"
    return frame(name, "assigned_chemical_shifts", "Assigned_chem_shift_list", [("ID", number)],
                 [loop("_Atom_chem_shift", SHIFT_TAGS, rows)])  # fmt: skip


def sample(*parts):
    tags = ["ID", "Mol_common_name", "Isotopic_labeling", "Entity_ID", "Entity_label"]
    rows = [[k, *part, *["."] * (4 - len(part))] for k, part in enumerate(parts, 1)]
    return frame("sample_1", "sample", "Sample", [("ID", 1)], [loop("_Sample_component", tags, rows)])


def deposition(*frames, identifier="15000"):
    made = pynmrstar.Entry.from_scratch(identifier)
    made.add_saveframe(frame("entry_information", "entry_information", "Entry", [("ID", identifier)]))
    for one in frames:
        made.add_saveframe(one)
    return str(made)


@pytest.fixture
def read(tmp_path):
    """Rows, and the reasons of what is left out by entity, of a deposition with these frames."""

    def read_frames(*frames, min_coverage=0.8):
        path = tmp_path / "bmr15000_3.str"
        path.write_text(deposition(*frames))
        rows, left_out = codes_of_deposition(path, min_coverage)
        assert all(one.file == str(path) for one in left_out)
        return rows, {one.entity: f"{one.kind}: {one.reason}" for one in left_out}

    return read_frames


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ([" aA AhnA?A"], "tAApA..A.A"),
        # the fullest list counts, the first of equals; lists are not joined
        (["AAA A     ", "    AAAAA ", "AAA AA    "], "ttttAAAAAt"),
        # copies of one entity are joined within a list
        (["AA   AA   +  A AA AAA"], "AAApAAAAAA"),
    ],
)
def test_which_amides_are_assigned(read, lists, expected):
    frames = [
        shifts(k, [row for copy in marks.split("+") for row in atoms(1, SEQUENCE, copy)])
        for k, marks in enumerate(lists, 1)
    ]
    labelled = sample(("protein1", NATURAL, 1), ("D2O", "[U-100% 2H]"), ("TRIS", "[U-2H]", "."))
    assert read(entity(1, SEQUENCE), labelled, *frames, min_coverage=0.5) == ([("15000_1", SEQUENCE, expected)], {})


def test_two_entities_a_ligand_and_a_nucleic_acid(read):
    other = "GKLPE"
    frames = [
        entity(1, SEQUENCE),
        entity(2, "AAAAA", kind="polyribonucleotide"),
        entity(3, other, first=-2),
        frame("entity_ZN", "entity", "Entity", [("ID", 4), ("Polymer_type", ".")]),
        shifts(1, [*atoms(1, SEQUENCE, "AAA AAAA A"), *atoms(3, other, "AA AA", first=-2), *atoms(4, "G", "A")]),
    ]
    first, second = ("15000_1", SEQUENCE, "AAApAAAA.A"), ("15000_3", other, "AA.pA")
    rows, left_out = read(*frames)
    assert rows == [first]
    assert left_out.keys() == {"3"}
    assert left_out["3"].startswith("filtered: 75.0%")  # 3 of 4 amides
    assert read(*frames, min_coverage=0.75)[0] == [first, second]


@pytest.mark.parametrize(("sequence", "protein"), [("GGJJ", True), ("GJJ", False)])
def test_without_polymer_type_half_of_the_residues_must_be_standard(read, sequence, protein):
    rows = [*atoms(1, "KKK", "AAA"), *atoms(2, sequence, "A" * len(sequence))]
    found, _ = read(entity(1, "KKK"), entity(2, sequence, kind="."), shifts(1, rows))
    assert [row[0] for row in found] == (["15000_1", "15000_2"] if protein else ["15000_1"])


@pytest.mark.parametrize("index", [True, False])
def test_other_residues_missing_entity_id_and_missing_list_of_components(read, index):
    sequence = "MGJALJVEGS"
    rows = [[row[0], ".", "." if index else row[2], *row[3:]] for row in atoms(1, sequence, "AAAAA AAAA")]
    protein = entity(1, sequence, index=index)
    for one in protein.loops:
        one.data = one.data[::-1]  # rows have no order of their own
    assert read(protein, shifts(1, rows))[0] == [("15000_1", "MGXALXVEGS", "AAAAAxAAAA")]


@pytest.mark.parametrize(
    ("kind", "texts"),
    {
        "deuterated": "[U-2H; U-13C; U-15N]|[U-100% 13C; U-100% 15N; 80% 2H]|perdeuterated|[U-15N; U-2D]|D/13C/15N|"
        "U-D, U-15N|80% D|D-labelled|fractionally 2 H|[U-2H]-His6",
        "methyl labelled": "[U-15N; ILV-13CH3]|U-15N, Ile delta1 methyl",
        "selectively labelled": "[U-15N]-Leu|[15N-Lysine]|selectively 15N|[U-13C; U-15N] except unlabeled Phe|"
        "[13C6,15N3]-His|[15N-His57]|His6, 15N-Leu",
        "": f"{NATURAL}|natural abundance|[1,3-13C glycerol; U-15N]|[U-13C] D-glucose|[U-15N]-His6|(His)6 [U-15N]|"
        "[U-15N], 6xHis|[U-15N] 6 x His-tag|U-15N, His-tagged|U-15N hexa-histidine tag|[U-13C; U-15N]; H2O|.|u-15n|"
        "[U-98% 13C; U-98% 15N]|U-15N,13C|uniform 15N, 13C|[U-100% 15N; 12C]|15N; C12H22O11",
    }.items(),
)
def test_isotopes(read, kind, texts):
    for text in texts.split("|"):
        rows, left_out = read(entity(1, "GGG"), sample(("protein1", text, 1)), shifts(1, atoms(1, "GGG", "AAA")))
        assert bool(rows) == (not kind), text
        assert list(left_out.values()) == ([f"filtered: {kind}: {text}"] if kind else [])
    assert kind in {"", *ISOTOPES}


@pytest.mark.parametrize(
    ("part", "left_out"),
    [
        (("Protein1", "[U-2H]", "."), True),  # by its name
        (("x", "[U-2H]", ".", "$entity_1"), True),  # by its saveframe
        (("x", "[U-2H]", 2), True),  # a partner
        (("x", "[U-2H]", "."), False),
        (("dna", "[U-2H]", "."), False),
    ],
)
def test_a_labelled_protein_of_a_sample_removes_the_deposition(read, part, left_out):
    frames = [entity(1, "GGG"), entity(2, "KKK"), entity(3, "AA", kind="polyribonucleotide", name="dna")]
    assert bool(read(*frames, sample(part), shifts(1, atoms(1, "GGG", "AAA")))[0]) == (not left_out)


def test_encodings(tmp_path):
    text = deposition(entity(1, "GGG", name="protéine"), shifts(1, atoms(1, "GGG", "AAA")))
    for encoding in ("utf-8", "utf-8-sig", "latin-1"):
        (tmp_path / "a.str").write_text(text, encoding=encoding)
        assert codes_of_deposition(tmp_path / "a.str")[0] == [("15000_1", "GGG", "AAA")]


def test_what_an_entity_cannot_be_used_for(read):
    good = atoms(1, "GGG", "AAA")
    twice, same = entity(1, "GGG"), entity(1, "KKK")
    twice.loops[0].data[1][0] = "1"
    same.name = "entity_9"
    nameless = [[row[0], ".", *row[2:]] for row in good]
    for frames, entities, named in [
        ([entity(1, "GGG"), shifts(1, [[1, 1, 1, 1, "GLY", "CA", 45.0]])], "1", "filtered: 0.0%"),
        ([entity(1, "GGG"), shifts(1, atoms(1, "AGG", "AAA"))], "1", "residue ALA 1"),
        ([entity(1, "GGG"), shifts(1, atoms(1, "GGG", "AAA", first=2))], "1", "residue GLY 4"),
        ([entity(1, "GGG"), entity(2, "GGG"), shifts(1, nameless)], "12", "without Entity_ID"),
        ([entity(1, ""), shifts(1, good)], "1", "no sequence"),
        ([twice, shifts(1, good)], "1", "number 1"),
    ]:
        rows, left_out = read(*frames)
        assert rows == []
        assert "".join(left_out) == entities
        assert all(named in reason for reason in left_out.values())
    rows, left_out = read(entity(1, "GGG"), same, shifts(1, good))
    assert rows == [("15000_1", "GGG", "AAA")]
    assert left_out["1"].startswith("failed")


def test_files_that_cannot_be_used(tmp_path):
    path = tmp_path / "bad.str"
    nucleic = deposition(entity(1, "AAA", kind="polyribonucleotide"))
    cut = gzip.compress(nucleic.encode())[:-20]
    for content in ("data_1".encode("utf-16"), b"hello", b"", b"data_1\n", nucleic.encode(), cut):
        path.write_bytes(content)
        refused(lambda: codes_of_deposition(path), path)
    refused(lambda: codes_of_deposition(tmp_path / "none.str"), tmp_path / "none.str")


def test_without_chemical_shifts(tmp_path):
    """The file is named, not a coverage of 0 %."""
    path = tmp_path / "a.str"
    for frames in ([], [shifts(1, [])]):
        path.write_text(deposition(entity(1, "GGG"), *frames))
        refused(lambda: codes_of_deposition(path), path, "no chemical shifts")
        refused(lambda: convert_star(path, tmp_path / "out.csv"), path, "no chemical shifts")


def nef(*chains):
    """A file translated from NEF: chains of three-letter names, all amides assigned but those of lower case."""
    rows, atoms = [], []
    for number, chain in enumerate(chains, start=1):
        for k, name in enumerate(chain.split(), start=-1):
            rows.append([number, k, name.upper(), "A"])
            atoms += [[number, k, name, atom, 8.0] for atom in ("H", "N") if name.isupper()]
    sequence = loop("_Chem_comp_assembly", ["Entity_assembly_ID", "Comp_index_ID", "Comp_ID", "Auth_asym_ID"], rows)
    table = loop("_Atom_chem_shift", ["Entity_assembly_ID", "Comp_index_ID", "Comp_ID", "Atom_ID", "Val"], atoms)
    made = pynmrstar.Entry.from_scratch("x")
    made.add_saveframe(frame("nef_nmr_meta_data", "entry_information", "Entry", [("ID", ".")]))
    made.add_saveframe(frame("nef_molecular_system", "assembly", "Assembly", [("ID", 1)], [sequence]))
    made.add_saveframe(frame("list", "assigned_chemical_shifts", "Assigned_chem_shift_list", [("ID", 1)], [table]))
    return str(made)


def test_translated_from_nef(tmp_path):
    path = tmp_path / "model.str"
    path.write_text(nef("GLY ala GLY GLY SEP LYS", "DA DG", "GLY ALA gly GLY SEP lys", "MET LYS PRO"))
    rows, left_out = codes_of_deposition(path, 0.5)
    # chains 1 and 3 are copies of one entity
    assert (rows, left_out) == ([("model_1", "GAGGXK", "AAAAAA"), ("model_4", "MKP", "AAt")], [])


def test_a_real_file_translated_from_nef(shared):
    path = shared / "cases/nef_star/nef_translated_v3.2.str"
    ((name, sequence, codes),) = codes_of_deposition(path, 0.01)[0]
    assert (name, sequence) == ("nef_translated_v3.2_1", "MTDFLAGIRIVGEDKNGMTNQITGVISKFD")
    assert codes == "ttA" + "t" * 27  # the amide of residue 3 alone has both shifts


def test_an_entity_without_sequence_takes_it_from_the_assembly(read):
    chains = loop("_Chem_comp_assembly", ["Entity_assembly_ID", "Comp_index_ID", "Comp_ID"],
                  [[7, k, "GLY"] for k in (1, 2, 3)])  # fmt: skip
    copies = loop("_Entity_assembly", ["ID", "Entity_ID"], [[7, 1]])
    assembly = frame("assembly", "assembly", "Assembly", [("ID", 1)], [copies, chains])
    assert read(entity(1, "", index=False), assembly, shifts(1, atoms(1, "GGG", "A A")))[0] == []
    found, _ = read(entity(1, "", index=False), assembly, shifts(1, atoms(1, "GGG", "A A")), min_coverage=0.5)
    assert found == [("15000_1", "GGG", "A.A")]


WWPDB = """data_2abc_shifts_1
#
{before}loop_
_Atom_chem_shift.ID
_Atom_chem_shift.Entity_ID
_Atom_chem_shift.Comp_index_ID
_Atom_chem_shift.Comp_ID
_Atom_chem_shift.Atom_ID
_Atom_chem_shift.Val
{rows}
{after}"""
MADE = {
    2017: {"before": "", "after": "#\n_pdbx_nmr_assigned_chem_shift_list.id 1\n"},
    2020: {"before": "_Assigned_chem_shift_list.Sf_category assigned_chemical_shifts\n", "after": "stop_\n"},
}


@pytest.mark.parametrize("year", MADE)
@pytest.mark.parametrize("structure", [True, False])
def test_chemical_shifts_of_the_wwpdb(tmp_path, year, structure):
    """Tables without saveframes; the sequence of residues without shifts is that of the structure."""
    seen = {2: "GLY H N", 3: "ALA H N", 4: "LYS CA", 7: "SER H N"}
    rows = [
        f"{k} 1 {k} {names.split()[0]} {atom} 8.1" for k, names in seen.items() for atom in names.split()[1:]
    ]  # fmt: skip
    text = WWPDB.format(rows="\n".join(rows), **MADE[year])
    path = tmp_path / "2abc_cs.str.gz"
    path.write_bytes(gzip.compress((text + text.replace("shifts_1", "shifts_2").replace("8.1", ".")).encode()))
    if structure:
        names = enumerate("MET GLY ALA LYS PRO VAL SER HIS".split(), 1)
        listed = "\n".join(f"1 {k} {name}" for k, name in names)
        tags = "\n".join(f"_entity_poly_seq.{tag}" for tag in ("entity_id", "num", "mon_id"))
        (tmp_path / ("2abc.cif" if year == 2017 else "2ABC.cif")).write_text(f"data_2ABC\nloop_\n{tags}\n{listed}\n")
        expected = ("2abc_1", "MGAKPVSH", "tAA.p.At")
    else:
        expected = ("2abc_1", "GAKXXS", "AA.xxA")
    with nullcontext() if structure else pytest.warns(InputWarning, match=str(path)):
        assert codes_of_deposition(path, 0.4)[0] == [expected]


def test_residues_of_the_wwpdb_that_are_too_far_apart_are_refused(tmp_path):
    """Without a structure the residues between them are `X`, which would fill the memory."""
    path = tmp_path / "2abc_cs.str"
    rows = "1 1 1 GLY H 8.1\n2 1 1000000000 GLY N 8.1"
    path.write_text(WWPDB.format(rows=rows, **MADE[2017]))
    with pytest.warns(InputWarning, match="no sequence"):
        refused(lambda: codes_of_deposition(path, 0.4), path, "entity 1", "1000000000")


def test_a_folder_with_files_that_fail(tmp_path):
    whole = deposition(entity(1, "GGG"), shifts(1, atoms(1, "GGG", "AAA")))
    (tmp_path / "sub").mkdir()
    for name, text in {
        "a.str": whole,
        "sub/cut.str": whole[:-200],
        "sub/same.star": whole,
        "notes.txt": "not read",
        "z.str": deposition(entity(1, "GG"), shifts(1, atoms(1, "GG", "A ")), identifier="15001"),
    }.items():
        (tmp_path / name).write_text(text)
    packed = deposition(entity(1, "KKK"), shifts(1, atoms(1, "KKK", "AAA")), identifier="15002")
    (tmp_path / "sub/p.STR.gz").write_bytes(gzip.compress(packed.encode()))
    table, left_out = read_star(tmp_path)
    assert table.to_numpy().tolist() == [[f"{n}_1", s, "AAA", "mbmrb", ""] for n, s in ((15000, "GGG"), (15002, "KKK"))]
    found = {(row.file.rsplit("/", 1)[1], row.entity, row.kind) for row in left_out.itertuples()}
    assert found == {("cut.str", "", "failed"), ("same.star", "15000_1", "failed"), ("z.str", "1", "filtered")}
    assert list(left_out) == ["file", "entity", "kind", "reason"]
    assert not left_out["reason"].str.contains(str(tmp_path)).any()
    assert read_star(tmp_path / "a.str")[0]["entry_ID"].tolist() == ["15000_1"]
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        refused(lambda folder=folder: read_star(folder), folder)


TEXT = deposition(
    entity(1, SEQUENCE),
    entity(2, "GKJ"),
    sample(("protein1", NATURAL, 1)),
    shifts(1, [*atoms(1, SEQUENCE, "AAAAAAAAAA")[:12], *atoms(2, "GKJ", "AA ")]),
)
PIECES = "stop_ loop_ save_ data_x _Entity.ID _Atom_chem_shift.Val . ' \" ; \n; # \n".split(" ")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_give_a_message(tmp_path, data):
    """Cut, spliced or with pieces of the format in wrong places: a table or a message, never another exception."""
    text = TEXT
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.one_of(st.integers(0, 30), st.integers(0, len(text))))
        piece = data.draw(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)))
        text = text[:start] + piece + text[start + length :]
    path = tmp_path / "fuzzed.str"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    table, left_out = read_star(path, 0.1)
    assert len(table) or len(left_out)
    assert (left_out["reason"] != "").all()
