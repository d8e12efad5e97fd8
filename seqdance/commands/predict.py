"""Command `seqdance predict`: the 23 properties of proteins as arrays, pictures, and B-factors of a structure.

    seqdance predict --model ChaoHou/SeqDance --fasta proteins.fasta --output predictions --plot

What is there already is not predicted again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from data_prepare.errors import InputError, run_command
from data_prepare.files import check_output
from model.figures.prediction import plot_prediction
from model.inference.b_factors import check_copy, write_b_factors
from model.inference.inputs import Protein, key, proteins_of
from model.inference.predict import (
    Prediction,
    check_prediction,
    hdf5_groups,
    is_hdf5,
    iterate_predictions,
    merge_predictions,
    model_fingerprint,
    property_names,
    read_prediction,
    residue_rows,
    write_prediction,
)
from model.network.dance import load_model


@dataclass(frozen=True)
class PredictConfig:
    """Predict dynamic properties: arrays of the residues by property, float32."""

    model: str
    """Folder with model.safetensors and config.json, weight file, or Hub id such as ChaoHou/SeqDance."""
    output: Path
    """Folder for one NAME.npz per protein, or one .h5 file with a group per protein. Proteins in it are passed over."""
    sequence: str | None = None
    """One protein; chains of a complex are joined by <eos><cls>."""
    fasta: Path | None = None
    """Proteins of a FASTA file (.gz too)."""
    pdb: Path | None = None
    """Sequence of a PDB file (.gz too), unresolved residues included."""
    cif: Path | None = None
    """Sequence of an mmCIF file (.gz too)."""
    chain: str | None = None
    """Chain of the structure, or several joined by commas. Default: all protein chains."""
    properties: tuple[str, ...] = ("all",)
    """all, residue (no residue pairs: faster, less memory), or names such as rmsf_nor corr."""
    plot: bool = False
    """Draw a picture of each protein: NAME.png in the folder; for an .h5 file in the folder named like it."""
    write_pdb: Path | None = None
    """With --pdb or --cif: a copy of the structure with the predicted RMSF (0 to 1) as B-factors, 0 elsewhere."""
    batch_size: int | None = None
    """Proteins at a time; changes no number. Default: as many as have about a million residue pairs together."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""


class Results:
    """Where predictions go: npz files in a folder. For an HDF5 file they are parts, which become the file in the end.

    Parameters
    ----------
    output
        The folder, or the file.
    model
        Fingerprint of the model.
    properties
        Those that are wanted.
    """

    def __init__(self, output: Path, model: str, properties: Sequence[str]) -> None:
        self.output, self.model, self.properties = output, model, properties
        self.hdf5 = is_hdf5(output)
        self.folder = output.with_name(f".{output.name}.parts") if self.hdf5 else output
        self.groups = hdf5_groups(output) if self.hdf5 and output.exists() else frozenset()

    def part(self, name: str) -> Path:
        """The npz of a protein."""
        return self.folder / f"{key(name)}.npz"

    def has(self, protein: Protein) -> bool:
        """Whether a protein is done; raises InputError if another prediction has its place."""
        if key(protein.name) in self.groups:
            check_prediction(self.output, key(protein.name), protein.sequence, self.model, self.properties)
        elif self.part(protein.name).exists():
            check_prediction(self.part(protein.name), None, protein.sequence, self.model, self.properties)
        else:
            return False
        return True

    def check_leftovers(self, proteins: Sequence[Protein]) -> None:
        """See that no part is of other proteins: unchecked it must not be merged, nor be lost with the folder.

        Raises
        ------
        InputError
            There is one, of an unfinished run.
        """
        if not self.hdf5:
            return
        stems = {path.stem for path in self.folder.glob("*.npz") if not path.name.startswith(".")}
        if others := sorted(stems - self.groups - {key(protein.name) for protein in proteins}):
            names = ", ".join(f"{stem}.npz" for stem in others[:3]) + ", ..." * (len(others) > 3)
            raise InputError(
                f"{self.folder}: an unfinished run with other proteins left {names}; finish that run or remove them"
            )

    def finish(self, proteins: Sequence[Protein]) -> None:
        """Put the parts of the proteins into the HDF5 file, and remove the folder of parts."""
        if not self.hdf5:
            return
        parts = sorted({self.part(protein.name) for protein in proteins if key(protein.name) not in self.groups})
        if parts:
            merge_predictions(parts, self.output)
        if self.folder.exists():  # also where a killed run had merged its parts, but not removed them
            shutil.rmtree(self.folder)

    def read(self, protein: Protein) -> Prediction:
        """The prediction of a protein, after `finish`."""
        if self.hdf5:
            return read_prediction(self.output, key(protein.name))
        return read_prediction(self.part(protein.name))


def predict(config: PredictConfig) -> list[Path]:
    """Write predictions, and pictures and a structure if asked for; returns their paths."""
    properties = property_names(config.properties)
    structure = config.pdb or config.cif
    if config.output.suffix.lower() == ".npz" or (config.output.is_file() and not is_hdf5(config.output)):
        raise InputError(f"--output {config.output}: give a folder (an npz for each protein), or a file ending in .h5")
    check_output(config.output if is_hdf5(config.output) else config.output / "name.npz")
    if config.write_pdb:
        if structure is None:
            raise InputError("--write-pdb needs the structure; give --pdb or --cif")
        if "rmsf_nor" not in properties:
            raise InputError("--write-pdb writes the RMSF; add rmsf_nor to --properties")
        check_copy(structure, config.write_pdb)
    proteins = proteins_of(config.sequence, config.fasta, config.pdb, config.cif, config.chain)
    check_keys(proteins)

    model = load_model(config.model, config.device)
    results = Results(config.output, model_fingerprint(model), properties)
    results.check_leftovers(proteins)
    pending = [protein for protein in proteins if not results.has(protein)]
    predictions = iterate_predictions(model, [p.sequence for p in pending], properties, config.batch_size)
    residues = sum(len(residue_rows(protein.sequence)[0]) for protein in pending)
    with tqdm(total=residues, unit="residue", unit_scale=True, disable=not pending) as bar:
        for place, found in predictions:
            protein = pending[place]
            chain = residue_rows(protein.sequence)[1]
            prediction = Prediction(protein.name, protein.sequence, results.model, chain, found)
            write_prediction(results.part(protein.name), prediction)
            bar.update(len(chain))
    results.finish(proteins)

    written = [config.output]
    if config.plot:
        folder = config.output.with_suffix("") if results.hdf5 else config.output
        drawn = {protein: folder / f"{key(protein.name)}.png" for protein in proteins}
        wanted = [protein for protein, path in drawn.items() if protein in set(pending) or not path.exists()]
        for protein in tqdm(wanted, unit="picture", disable=not wanted):
            plot_prediction(results.read(protein), drawn[protein])
        written += drawn.values() if len(drawn) == 1 else [folder]
    if config.write_pdb and structure:
        write_b_factors(structure, results.read(proteins[0]).properties["rmsf_nor"], config.write_pdb, config.chain)
        written.append(config.write_pdb)
    return list(dict.fromkeys(written))


def check_keys(proteins: Sequence[Protein]) -> None:
    """See that no two proteins would be written to one file."""
    names: dict[str, str] = {}
    for protein in proteins:
        other = names.setdefault(key(protein.name), protein.name)
        if other != protein.name:
            raise InputError(f"{other} and {protein.name} would both be {key(other)} in the output; rename one")


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config = tyro.cli(PredictConfig, args=args)
    for path in run_command(lambda: predict(config), config.debug):
        print(path)
