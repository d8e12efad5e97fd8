"""mmCIF files, parsed by gemmi; a `label_asym_id` is a chain, named by its `auth_asym_id`."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Final

import gemmi
import numpy as np
from numpy.typing import NDArray

from data_prepare.files import open_binary
from data_prepare.structure.atom_records import AtomRecord, topology_of
from data_prepare.structure.sequence import CAPS, UNKNOWN, one_letter_sequence
from data_prepare.structure.topology import Topology

LONGEST: Final = 10**5  # residues of a declared sequence
COLUMNS: Final = (
    "label_asym_id ?auth_asym_id label_comp_id ?auth_seq_id ?pdbx_PDB_ins_code label_atom_id ?type_symbol "
    "?label_alt_id ?pdbx_PDB_model_num ?label_seq_id ?label_entity_id ?group_PDB Cartn_x Cartn_y Cartn_z"
).split()


def read_document(path: Path) -> gemmi.cif.Document:
    """The data blocks of an mmCIF file, gzipped or not, whatever its name."""
    with open_binary(path) as file:
        return gemmi.cif.read_string(file.read())


def read_models(path: Path) -> tuple[Topology, list[NDArray[np.float64]]]:
    """Topology of the first model, and positions (atoms of the file, 3) in Angstrom of all models.

    The chains of several data blocks follow each other.
    """
    records: list[AtomRecord] = []
    sequences: dict[Hashable, str] = {}
    blocks = [_read_block(block, records, sequences) for block in read_document(path)]
    models = [np.concatenate(parts) for parts in zip(*filter(None, blocks), strict=True)]
    return topology_of(path, records, sequences), models


def _read_block(
    block: gemmi.cif.Block, records: list[AtomRecord], sequences: dict[Hashable, str]
) -> list[NDArray[np.float64]]:
    """Positions of the models of a data block; appends the atoms of the first and the declared sequences."""
    polymers: dict[str, dict[int, str]] = {}  # entity -> number in its sequence -> residue name (the first of several)
    for entity, number, name in block.find("_entity_poly_seq.", ["entity_id", "num", "mon_id"]):
        if not 0 < int(number) <= LONGEST:
            raise ValueError(f"_entity_poly_seq.num {number}, expected 1 to {LONGEST}")
        polymers.setdefault(gemmi.cif.as_string(entity), {}).setdefault(int(number), gemmi.cif.as_string(name))
    # numbers of the residues that have a letter: gaps have, caps have not
    lettered = {
        entity: [number for number in range(1, max(names) + 1) if names.get(number) not in CAPS]
        for entity, names in polymers.items()
    }
    declared = {
        entity: one_letter_sequence(names.get(number, UNKNOWN) for number in lettered[entity])
        for entity, names in polymers.items()
    }
    index = {entity: {number: k for k, number in enumerate(numbers)} for entity, numbers in lettered.items()}
    models: dict[str, list[tuple[float, float, float]]] = {}
    for row in block.find("_atom_site.", COLUMNS):
        fields = [gemmi.cif.as_string(row[at]) if row.has(at) else "" for at in range(12)]
        label, auth, residue, auth_number, code, atom, element, alternate, model, number, entity, group = (
            "" if field in (".", "?") else field for field in fields
        )
        position = (gemmi.cif.as_number(row[12]), gemmi.cif.as_number(row[13]), gemmi.cif.as_number(row[14]))
        models.setdefault(model, []).append(position)
        if len(models) > 1:
            continue
        asym = (block.name, label or auth)
        if entity in declared:
            sequences[asym] = declared[entity]
        records.append(
            AtomRecord(
                atom_name=atom,
                element=element,
                residue_name=residue,
                number=auth_number or number,
                insertion_code=code,
                chain_id=auth or label,
                chain_key=asym,
                chain_label=label,
                position=position,
                alternate=alternate != "",
                sequence_index=index[entity].get(int(number), -1) if number and entity in declared else -1,
                hetero=group == "HETATM" or bool(declared and not number),
            )
        )
    return [np.array(model) for model in models.values()]
