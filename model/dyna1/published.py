"""Inputs, weights and files of the published programs dyna1.py and dyna1-esm2.py.

Other programs count rows of their table along the residues of the structure. So residues without coordinates, which
`seqdance dyna1 predict` includes where the file declares them, are left out here, from the language model's input too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data_prepare.errors import require
from data_prepare.files import stem, whole_file
from model.dyna1.embeddings.chains import chain_inputs, fetch_structure, put_sequence, read_structure_chain
from model.dyna1.embeddings.source import ChainInput
from model.dyna1.predict import exchange_table, load_with_embedder, predict_exchange
from model.inference.b_factors import write_b_factors
from model.inference.inputs import file_names, parse_sequence

REPOSITORY: Final = "gelnesr/Dyna-1"
FOLDERS: Final = (Path("model/weights"), Path("weights"))  # where the published instructions put the weights
COLUMNS: Final = ["position", "residue", "p_exchange"]


def published_weights(name: str) -> str:
    """File `name` in model/weights/ or weights/ of this folder, else on the Hub."""
    local = next((folder / name for folder in FOLDERS if (folder / name).is_file()), None)
    return f"{REPOSITORY}/{name}" if local is None else str(local)


def published_chain(
    sequence: str | None, structure: Path | None, chain: str | None, use_pdb_seq: bool
) -> tuple[ChainInput, NDArray[np.bool_]]:
    """What the published program reads, and which residues of the whole chain have coordinates.

    The structure alone, with its sequence, or another sequence of the same length on it; or the sequence alone.
    """
    if structure is None:
        (found,) = chain_inputs(sequence=sequence)
        return found, np.ones(len(found.sequence), bool)
    whole = read_structure_chain(structure, chain)
    resolved = np.array([residue != "" for residue in whole.structure_residues or ()])
    require(whole.backbone is not None and resolved.any(), f"{structure}: no coordinates; use another file")
    found = replace(
        whole,
        name=stem(structure),
        sequence="".join(np.array(list(whole.sequence))[resolved]),
        backbone=whole.backbone[resolved],  # type: ignore[index]
        structure_residues=tuple(np.array(whole.structure_residues, object)[resolved]),
    )
    if sequence is not None:
        return put_sequence(found, parse_sequence(sequence), str(structure)), resolved
    return replace(found, sequence_seen=use_pdb_seq), resolved


def run_published(
    weights_name: str,
    sequence: str | None,
    pdb: Path | None,
    chain: str | None,
    use_pdb_seq: bool,
    save_dir: Path,
    file_name: str | None,
    suffix: str,
    write_to_pdb: bool,
    weights: str | None = None,
    device: str = "auto",
) -> list[Path]:
    """Predict one chain and write `file_name` (default: name of the input + `suffix`) as .csv and .pdb.

    InputError if input or weights cannot be used, or the language model is missing.
    """
    structure = fetch_structure(pdb, save_dir) if pdb else None
    found, resolved = published_chain(sequence, structure, chain, use_pdb_seq)
    classifier, source = load_with_embedder(weights or published_weights(weights_name), device=device)
    p = predict_exchange(classifier, source, found)  # (L,)
    (base,) = file_names([file_name or f"{found.name}{suffix}"])
    table, copy = save_dir / f"{base}.csv", save_dir / f"{base}.pdb"
    if structure is not None and write_to_pdb:
        values = np.zeros(len(resolved))
        values[resolved] = p
        write_chain(structure, values, copy, found)
    with whole_file(table) as temporary:
        exchange_table(found, p)[COLUMNS].to_csv(temporary, index=False)
    return [table, copy] if write_to_pdb else [table]


def write_chain(structure: Path, values: NDArray[np.float64], output: Path, chain: ChainInput) -> None:
    """PDB file of the protein residues of a chain, first model, with one value per residue as B-factors."""
    import gemmi

    letter = next(residue for residue in chain.structure_residues or () if residue).split(":")[0]
    with TemporaryDirectory() as folder:
        copy = Path(folder) / structure.name
        write_b_factors(structure, values, copy, chain.chain)
        found = gemmi.read_structure(str(copy))
    while len(found) > 1:
        del found[1]
    for name in {own.name for own in found[0]} - {letter, "" if letter == "X" else letter}:
        found[0].remove_chain(name)
    found.setup_entities()
    found.remove_ligands_and_waters()
    found.shorten_chain_names()
    with whole_file(output) as temporary:
        found.write_pdb(str(temporary))
