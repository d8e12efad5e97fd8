"""NMR-STAR depositions, written with pynmrstar: several entities, several lists, labelling, damage."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prepare.errors import InputError
from data_prepare.nmr.nmr_star import LABELLING, STANDARD, codes_of_deposition, read_star

pynmrstar = pytest.importorskip("pynmrstar", reason="pynmrstar is absent")
THREE = {letter: name for name, letter in STANDARD.items()}
NATURAL = "[U-99% 13C; U-99% 15N]"


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
    return [THREE.get(letter, "SEP") for letter in sequence]


def entity(number, sequence, kind="polypeptide(L)", first=1, name=None, index=True):
    rows = [[k, component, number] for k, component in enumerate(components(sequence), first)]
    tags = [("ID", number), ("Name", name or f"protein{number}"), ("Type", "polymer"), ("Polymer_type", kind)]
    tags.append(("Polymer_seq_one_letter_code", sequence.replace("J", "(SEP)") or "."))
    loops = [loop("_Entity_comp_index", ["ID", "Comp_ID", "Entity_ID"], rows)] if index else []
    return frame(f"entity_{number}", "entity", "Entity", tags, loops)


def atoms(number, sequence, assigned, first=1, copies=1, with_entity=True):
    """Rows of H, N and CA for the residues whose place in `assigned` is not a blank; h or n: only that atom."""
    rows = []
    for copy in range(1, copies + 1):
        for place, (component, mark) in enumerate(zip(components(sequence), assigned, strict=True), first):
            wanted = {"A": "H N CA", "a": "HN N", "h": "H CA", "n": "N CA", " ": "CA", "?": "H N"}[mark].split()
            for atom in wanted:
                value = "." if mark == "?" and atom == "N" else "8.1" if atom.startswith("H") else "120.0"
                rows.append([copy, number if with_entity else ".", place, place, component, atom, value])
    return rows


SHIFT_TAGS = ["Entity_assembly_ID", "Entity_ID", "Comp_index_ID", "Seq_ID", "Comp_ID", "Atom_ID", "Val"]


def shifts(number, rows, tags=SHIFT_TAGS):
    name = f"assigned_chemical_shifts_{number}"
    return frame(
        name,
        "assigned_chemical_shifts",
        "Assigned_chem_shift_list",
        [("ID", number)],
        [loop("_Atom_chem_shift", tags, rows)],
    )


def sample(parts):
    tags = ["ID", "Mol_common_name", "Isotopic_labeling", "Entity_ID", "Entity_label"]
    rows = [[k, *part, "."] if len(part) == 3 else [k, *part] for k, part in enumerate(parts, 1)]
    return frame("sample_1", "sample", "Sample", [("ID", 1)], [loop("_Sample_component", tags, rows)])


def deposition(*frames, identifier="15000"):
    made = pynmrstar.Entry.from_scratch(identifier)
    made.add_saveframe(frame("entry_information", "entry_information", "Entry", [("ID", identifier)]))
    for one in frames:
        made.add_saveframe(one)
    return made


@pytest.fixture
def write(tmp_path):
    def write_file(*frames, name="bmr15000_3.str", identifier="15000"):
        (tmp_path / name).write_text(str(deposition(*frames, identifier=identifier)))
        return tmp_path / name

    return write_file


SEQUENCE = "MGAPLKVEGS"


def test_one_protein(write):
    path = write(
        entity(1, SEQUENCE),
        sample([("protein1", NATURAL, 1), ("D2O", "[U-100% 2H]", "."), ("TRIS", "[U-2H]", ".")]),
        shifts(1, atoms(1, SEQUENCE, " aA AhnA?A")),
    )
    assert codes_of_deposition(path, 0.5) == ([("15000_1", SEQUENCE, "tAApA..A.A")], [])


def test_two_entities_a_ligand_and_a_nucleic_acid(write):
    other = "GKLPE"
    path = write(
        entity(1, SEQUENCE),
        entity(2, "AAAAA", kind="polyribonucleotide"),
        entity(3, other, first=-2),
        frame("entity_ZN", "entity", "Entity", [("ID", 4), ("Type", "non-polymer"), ("Polymer_type", ".")]),
        shifts(1, [*atoms(1, SEQUENCE, "AAA AAAA A"), *atoms(3, other, "AA AA", first=-2), *atoms(4, "G", "A")]),
    )
    rows, left_out = codes_of_deposition(path)
    assert rows == [("15000_1", SEQUENCE, "AAApAAAA.A")]
    assert [(one.entity, one.kind) for one in left_out] == [("3", "filtered")]  # 3 of 4 amides
    assert "75.0% of the amides assigned" in left_out[0].reason
    assert codes_of_deposition(path, 0.75)[0] == [("15000_1", SEQUENCE, "AAApAAAA.A"), ("15000_3", other, "AA.pA")]


def test_the_fuller_list_counts_and_lists_are_not_joined(write):
    lists = ["AAA A     ", "    AAAAA ", "AAA AA    "]
    path = write(entity(1, SEQUENCE), *(shifts(k, atoms(1, SEQUENCE, marks)) for k, marks in enumerate(lists, 1)))
    # the second and the third have five amides each: the first of them
    assert codes_of_deposition(path, 0.5)[0] == [("15000_1", SEQUENCE, "ttttAAAAAt")]


def test_copies_of_one_entity_are_joined(write):
    rows = atoms(1, SEQUENCE, "AA   AA   ") + [[2, *row[1:]] for row in atoms(1, SEQUENCE, "  A AA AAA")]
    path = write(entity(1, SEQUENCE), shifts(1, rows))
    assert codes_of_deposition(path)[0] == [("15000_1", SEQUENCE, "AAApAAAAAA")]


def test_residues_that_are_not_standard(write):
    sequence = "MGJALJVEGS"
    path = write(entity(1, sequence), shifts(1, atoms(1, sequence, "AAAAA AAAA")))
    assert codes_of_deposition(path)[0] == [("15000_1", "MGXALXVEGS", "AAAAAxAAAA")]


@pytest.mark.parametrize("index", [True, False])
def test_missing_entity_id_and_missing_list_of_components(write, index):
    sequence = "MGJALKVEGS"
    rows = atoms(1, sequence, "AAAAAA AAA", with_entity=False)
    rows = [[*row[:2], "." if index else row[2], *row[3:]] for row in rows]  # then Seq_ID is taken
    path = write(entity(1, sequence, index=index), shifts(1, rows))
    assert codes_of_deposition(path)[0] == [("15000_1", "MGXALKVEGS", "AAAAAA.AAA")]


@pytest.mark.parametrize(
    ("labelling", "kind"),
    [
        ("[U-2H; U-13C; U-15N]", "deuterated"),
        ("[U-100% 13C; U-100% 15N; 80% 2H]", "deuterated"),
        ("perdeuterated", "deuterated"),
        ("[U-15N; ILV-13CH3]", "methyl labelled"),
        ("U-15N, Ile delta1 methyl", "methyl labelled"),
        ("[U-15N]-Leu", "selectively labelled"),
        ("[15N-Lysine]", "selectively labelled"),
        ("selectively 15N", "selectively labelled"),
        ("[U-13C; U-15N] except unlabeled Phe", "selectively labelled"),
        (NATURAL, None),
        ("natural abundance", None),
        ("[1,3-13C glycerol; U-15N]", None),
        ("[U-15N; U-2D]", "deuterated"),
        ("D/13C/15N", "deuterated"),
        ("U-D, U-15N", "deuterated"),
        ("80% D", "deuterated"),
        ("D-labelled", "deuterated"),
        ("fractionally 2 H", "deuterated"),
        ("[U-2H]-His6", "deuterated"),
        ("[13C6,15N3]-His", "selectively labelled"),
        ("[15N-His57]", "selectively labelled"),
        ("His6, 15N-Leu", "selectively labelled"),
        ("[U-13C] D-glucose", None),
        ("[U-15N]-His6", None),
        ("(His)6 [U-15N]", None),
        ("[U-15N], 6xHis", None),
        ("[U-15N] 6 x His-tag", None),
        ("U-15N, His-tagged", None),
        ("U-15N hexa-histidine tag", None),
        ("[U-13C; U-15N]; H2O", None),
        (".", None),
    ],
)
def test_labelling(write, labelling, kind):
    path = write(entity(1, "GGG"), sample([("protein1", labelling, 1)]), shifts(1, atoms(1, "GGG", "AAA")))
    rows, left_out = codes_of_deposition(path)
    assert bool(rows) == (kind is None)
    assert [one.reason.partition(":")[0] for one in left_out] == ([] if kind is None else [kind])


@pytest.mark.parametrize("part", [("Protein1", "[U-2H]", "."), ("x", "[U-2H]", ".", "$entity_1")])
def test_a_sample_may_name_the_protein(write, part):
    path = write(entity(1, "GGG"), sample([part]), shifts(1, atoms(1, "GGG", "AAA")))
    assert codes_of_deposition(path)[1][0].reason == "deuterated: [U-2H]"


def test_a_labelled_partner_removes_the_deposition(write):
    path = write(
        entity(1, "GGG"),
        entity(2, "KKK"),
        sample([("protein1", NATURAL, 1), ("protein2", "[U-2H]", 2)]),
        shifts(1, atoms(1, "GGG", "AAA")),
    )
    assert codes_of_deposition(path)[0] == []


def test_rows_of_the_sequence_may_be_shuffled(write):
    shuffled = entity(1, SEQUENCE)
    shuffled.loops[0].data = shuffled.loops[0].data[::-1]
    path = write(shuffled, shifts(1, atoms(1, SEQUENCE, "AA AAAA AA")))
    assert codes_of_deposition(path, 0.5)[0] == [("15000_1", SEQUENCE, "AA.pAAA.AA")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_encodings(write, encoding):
    path = write(entity(1, "GGG", name="protéine"), shifts(1, atoms(1, "GGG", "AAA")))
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert codes_of_deposition(path)[0] == [("15000_1", "GGG", "AAA")]


def _reason(path, coverage=0.8):
    rows, left_out = codes_of_deposition(path, coverage)
    assert rows == []
    return {one.entity: one.reason for one in left_out}


def test_what_an_entity_cannot_be_used_for(write):
    good = atoms(1, "GGG", "AAA")
    assert _reason(write(entity(1, "GGG"))) == {"1": "0.0% of the amides assigned, less than 80.0%"}
    assert (
        "residue ALA 1 is not in the sequence"
        in _reason(write(entity(1, "GGG"), shifts(1, atoms(1, "AGG", "AAA"))))["1"]
    )
    assert "residue GLY 4 is not" in _reason(write(entity(1, "GGG"), shifts(1, atoms(1, "GGG", "AAA", first=2))))["1"]
    nameless = [[*row[:1], ".", *row[2:]] for row in good]
    both = _reason(write(entity(1, "GGG"), entity(2, "GGG"), shifts(1, nameless)))
    assert both.keys() == {"1", "2"}
    assert "without Entity_ID among several proteins" in both["1"]
    assert _reason(write(entity(1, ""), shifts(1, good))) == {"1": "no sequence"}
    twice = entity(1, "GGG")
    twice.loops[0].data[1][0] = "1"
    assert "number 1 is missing, no number, or there twice" in _reason(write(twice))["1"]
    same = entity(1, "GGG")
    other = frame("entity_9", "entity", "Entity", [("ID", 1), ("Polymer_type", "polypeptide(L)"), ("Polymer_seq", ".")])
    other.add_tag("Polymer_seq_one_letter_code", "KK\nK")
    rows, left_out = codes_of_deposition(write(same, other, shifts(1, good)))
    assert ([row[0] for row in rows], left_out[0].reason) == (["15000_1"], "another entity has the same ID")


def test_files_that_cannot_be_used(tmp_path, write):
    path = tmp_path / "bad.str"
    for content, reason in [
        ("data_1".encode("utf-16"), "not a text file"),
        (b"hello", "not a readable NMR-STAR file"),
        (b"", "not a readable NMR-STAR file|no entities"),
        (b"data_1\n", "no entities; only NMR-STAR version 3"),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"bad\.str: ({reason})"):
            codes_of_deposition(path)
    with pytest.raises(InputError, match="cannot be read"):
        codes_of_deposition(tmp_path / "none.str")
    with pytest.raises(InputError, match="no entity is a protein"):
        codes_of_deposition(write(entity(1, "AAA", kind="polyribonucleotide")))


@pytest.mark.parametrize("stray", ["loop_\n stop_", "loop_\n _Entity.Other\n 1\n stop_"])
def test_stray_loops_are_passed_over(write, stray):
    path = write(entity(1, "GGG"), shifts(1, atoms(1, "GGG", "AAA")))
    text = path.read_text()
    path.write_text(text.replace("save_assigned", f"save_odd\n _Entity.ID 7\n {stray}\nsave_\nsave_assigned", 1))
    assert path.read_text() != text
    assert codes_of_deposition(path)[0] == [("15000_1", "GGG", "AAA")]


def test_a_folder_goes_on_after_failures(tmp_path, write):
    whole = write(entity(1, "GGG"), shifts(1, atoms(1, "GGG", "AAA")))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/cut.str").write_text(whole.read_text()[:-200])
    (tmp_path / "sub/same.star").write_text(whole.read_text())
    (tmp_path / "notes.txt").write_text("not read")
    write(entity(1, "GG"), shifts(1, atoms(1, "GG", "A ")), name="z.str", identifier="15001")
    table, left_out = read_star(tmp_path)
    assert table[["entry_ID", "label", "source"]].to_numpy().tolist() == [["15000_1", "AAA", "mbmrb"]]
    found = {(row.file.rsplit("/", 1)[1], row.entity, row.kind) for row in left_out.itertuples()}
    assert found == {("cut.str", "", "failed"), ("same.star", "15000_1", "failed"), ("z.str", "1", "filtered")}
    assert not left_out["reason"].str.contains(str(tmp_path)).any()
    alone, _ = read_star(whole)
    assert alone["entry_ID"].tolist() == ["15000_1"]
    with pytest.raises(InputError, match="no such file or folder"):
        read_star(tmp_path / "sub" / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no NMR-STAR files"):
        read_star(tmp_path / "empty")
    with pytest.raises(InputError, match=r"coverage 2: expected"):
        read_star(tmp_path, 2)


def test_patterns_leave_uniform_labelling_alone():
    """Forms that depositions use for uniform labels and that resemble the patterns."""
    for text in [
        "[U-98% 13C; U-98% 15N]",
        "U-15N,13C",
        "[U-15N]",
        "u-15n",
        "uniform 15N, 13C",
        "[U-100% 15N; 12C]",
        "15N; C12H22O11",
    ]:
        assert not any(pattern.search(text) for pattern in LABELLING.values()), text


TEXT = str(
    deposition(
        entity(1, SEQUENCE),
        entity(2, "GKJ"),
        sample([("protein1", NATURAL, 1)]),
        shifts(1, [*atoms(1, SEQUENCE, "AAAAAAAAAA")[:12], *atoms(2, "GKJ", "AA ")]),
    )
)
PIECES = [
    "stop_",
    "loop_",
    "save_",
    "data_x",
    "_Entity.ID",
    "_Atom_chem_shift.Val",
    ".",
    "'",
    '"',
    ";",
    "\n;",
    "#",
    "\n",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
