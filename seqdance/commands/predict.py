"""Command `seqdance predict`: the 23 properties of proteins as arrays, figures, and B-factors of a structure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.files import check_output
from model.figures.prediction import draw_prediction
from model.figures.save import save_figure
from model.inference.b_factors import check_copy, write_b_factors
from model.inference.inputs import file_names
from model.inference.predict import predict_missing, property_names
from model.inference.prediction_files import HDF5_SUFFIXES, PredictionFile, PredictionFolder
from model.network.dance import load_model
from model.network.device import choose_precision, device_of
from model.network.weights import network_digest
from seqdance.options import ModelOptions, ProteinOptions

OTHER_SUFFIXES: Final = (".npz", ".npy", ".csv", ".tsv", ".txt", ".json", ".parquet", ".gz", ".png", ".pdb", ".cif")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ModelOptions, ProteinOptions):
    """Predict dynamic properties: float32 arrays by property, one row per residue.

    Rerun the same command to resume an interrupted run or to add proteins.
    """

    output: Path
    """Folder for one NAME.npz per protein, or .h5 file with one group per protein."""
    properties: tuple[str, ...] = ("all",)
    """all, residue (without pair properties: faster, less memory), or names such as rmsf_nor corr."""
    plot: bool = False
    """Draw a figure of each protein: NAME.png in the output folder, or in the folder NAME of NAME.h5."""
    write_pdb: Path | None = None
    """With --pdb or --cif: copy of the structure with the predicted RMSF (0 to 1) as B-factors, 0 for other atoms."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Proteins per batch; does not change the results. Default: a million residue pairs on a CPU, what fills a GPU."""

    def __post_init__(self) -> None:
        names = property_names(self.properties)
        other = not self.hdf5 and (self.output.suffix.lower() in OTHER_SUFFIXES or self.output.is_file())
        what = "predictions are arrays, not a table; give a folder for npz files, or a file ending in .h5"
        require(not other, f"--output {self.output}: {what}")
        check_output(self.output if self.hdf5 else self.output / "name.npz")
        if self.write_pdb:
            require(self.structure, f"--write-pdb {self.write_pdb} requires --pdb or --cif")
            require("rmsf_nor" in names, "--write-pdb requires the RMSF; add rmsf_nor to --properties")
        if self.write_pdb and self.structure:
            check_copy(self.structure, self.write_pdb)

    @property
    def hdf5(self) -> bool:
        """Whether the output is an HDF5 file."""
        return self.output.suffix.lower() in HDF5_SUFFIXES


def predict(options: PredictOptions) -> list[Path]:
    """Write predictions, and optionally figures and a structure; returns their paths."""
    proteins = options.proteins()
    names = file_names([protein.name for protein in proteins])
    model = load_model(options.model, options.device)
    output = options.output
    form = PredictionFile if options.hdf5 else PredictionFolder
    precision = choose_precision(options.precision, device_of(model))
    store = form(output, network_digest(model, model.config.heads, precision), property_names(options.properties))
    predicted = set(predict_missing(model, proteins, store, options.batch_size, options.precision))
    written = [output]
    if options.plot:
        folder = output.with_suffix("") if options.hdf5 else output
        figures = {protein: folder / f"{name}.png" for protein, name in zip(proteins, names, strict=True)}
        stale = [protein for protein, path in figures.items() if protein in predicted or not path.exists()]
        for protein in tqdm(stale, unit="figure", disable=not stale):
            save_figure(draw_prediction(store.read(protein)), figures[protein], dpi=110)
        written += figures.values() if len(figures) == 1 else [folder]
    if options.write_pdb and options.structure:
        rmsf = store.read(proteins[0]).properties["rmsf_nor"]
        write_b_factors(options.structure, rmsf, options.write_pdb, options.chain)
        written.append(options.write_pdb)
    return list(dict.fromkeys(written))


main = partial(run, PredictOptions, predict)
