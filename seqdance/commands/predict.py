"""Command `seqdance predict`: the 23 properties of proteins as arrays or a table, figures, and RMSF on a structure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.files import HDF5_SUFFIXES, check_output
from data_prepare.resume import Results, digest, sample_digest
from seqdance.options import FigureFormat, ModelOptions, ProteinOptions

if TYPE_CHECKING:
    from model.inference.inputs import Protein

OTHER_SUFFIXES: Final = (".npz", ".npy", ".tsv", ".txt", ".json", ".gz", ".xls", ".png", ".pdb", ".cif")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ModelOptions, ProteinOptions):
    """Predict dynamic properties: a table with a row per residue, or float32 arrays by property.

    Rerun the same command to resume an interrupted run or to add proteins.
    """

    output: Path
    """Table of the residue properties: .csv, .csv.gz, .xlsx or .parquet. Arrays, also of residue pairs: a folder for
    one NAME.npz per protein, or an .h5 file with one group per protein."""
    properties: tuple[str, ...] = ("all",)
    """all, residue (without pair properties: faster, less memory), or names such as rmsf_nor corr."""
    plot: bool = False
    """Draw a figure of each protein: NAME.png in the output folder, in the folder NAME of NAME.h5, or beside the
    table. It has maps of the pair properties, unless --properties leaves them out."""
    plot_format: FigureFormat = "png"
    """Format of the figures of --plot."""
    write_pdb: Path | None = None
    """With --pdb or --cif: copy of the structure with the predicted RMSF (0 to 1) as B-factors, 0 for other atoms;
    and scripts beside it that show it, .pml of PyMOL and .cxc of ChimeraX."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Proteins per batch; does not change the results. Default: a million residue pairs on a CPU, what fills a GPU."""

    def __post_init__(self) -> None:
        from model.inference.tables import check_table

        if self.table:
            check_table(self.output)
        other = not self.hdf5 and (self.output.suffix.lower() in OTHER_SUFFIXES or self.output.is_file())
        what = "give a table (.csv, .xlsx, .parquet), a folder for npz files, or a file ending in .h5"
        require(self.table or not other, f"--output {self.output}: {what}")
        check_output(self.output if self.hdf5 or self.table else self.output / "name.npz")
        wanted = not self.write_pdb or "rmsf_nor" in self.names
        require(wanted, "--write-pdb requires the RMSF; add rmsf_nor to --properties")
        self.check_write_pdb(self.write_pdb)

    @property
    def hdf5(self) -> bool:
        """Whether the output is an HDF5 file."""
        return self.output.suffix.lower() in HDF5_SUFFIXES

    @property
    def table(self) -> bool:
        """Whether the output is a table."""
        from model.inference.tables import is_table

        return is_table(self.output)

    @property
    def names(self) -> tuple[str, ...]:
        """The properties to predict: for a table those of residues, and with a figure of all also those of pairs."""
        from model.inference.predict import property_names, table_names

        if self.table:
            names = table_names(self.properties)
            return property_names(self.properties) if self.plot and "all" in self.properties else names
        return property_names(self.properties)

    def figures(self, proteins: list[Protein]) -> dict[Protein, Path]:
        """The figure of each protein."""
        from model.inference.inputs import file_names
        from model.inference.tables import without_suffix

        names = file_names([protein.name for protein in proteins])
        if self.table:
            base = without_suffix(self.output)
            several = len(proteins) > 1
            paths = [base.with_name(f"{base.name}{f'_{name}' if several else ''}.{self.plot_format}") for name in names]
        else:
            folder = self.output.with_suffix("") if self.hdf5 else self.output
            paths = [folder / f"{name}.{self.plot_format}" for name in names]
        return dict(zip(proteins, paths, strict=True)) if self.plot else {}


def predict(options: PredictOptions) -> list[Path]:
    """Write predictions, and optionally figures and a structure; returns their paths."""
    from tqdm import tqdm

    from model.figures.prediction import draw_prediction
    from model.figures.save import save_figure
    from model.inference.predict import predict_missing
    from model.inference.prediction_files import PredictionFile, PredictionFolder, PredictionTable
    from model.inference.structure_scripts import RMSF, script_paths, write_on_structure
    from model.network.dance import load_model
    from model.network.weights import network_digest

    proteins, output = options.proteins(), options.output
    figures, copy = options.figures(proteins), options.write_pdb
    model = load_model(options.model, options.device)
    label = model.label
    network = network_digest(model, model.config.heads, options.precision)
    copies = [copy, *script_paths(copy)] if copy else []
    written = [output, *figures.values(), *copies]
    results = Results(output) if options.table else None
    inputs = [(protein.name, protein.sequence, protein.structure_ids) for protein in proteins]
    key = digest(network, options.names, inputs, sample_digest(options.structure) if options.structure else "")
    if results and results.is_finished(key, written):
        return written
    form = PredictionTable if options.table else PredictionFile if options.hdf5 else PredictionFolder
    store = form(output, network, options.names, label)
    predicted = set(predict_missing(model, proteins, store, options.batch_size, options.precision))
    stale = [
        protein
        for protein, path in figures.items()  # the store does not have the residue numbers of a structure
        if options.table or protein.structure_ids or protein in predicted or not path.exists()
    ]
    for protein in tqdm(stale, unit="figure", disable=not stale):
        numbers = [own.number for own in protein.structure_ids or ()]
        save_figure(draw_prediction(store.read(protein), numbers), figures[protein], dpi=110)
    if copy and options.structure:
        rmsf = store.read(proteins[0]).properties["rmsf_nor"]
        write_on_structure(options.structure, rmsf, copy, options.chain, RMSF, label)
    if results:
        results.finish(key, written)
    places = figures.values() if len(figures) == 1 else [path.parent for path in figures.values()]
    return list(dict.fromkeys([output, *places, *copies]))


main = partial(run, PredictOptions, predict)
