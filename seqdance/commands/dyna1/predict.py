"""Command `seqdance dyna1 predict`: probability of micro- to millisecond exchange of each residue."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from pydantic.dataclasses import dataclass

from data_prepare.command_line import run
from data_prepare.errors import require
from data_prepare.files import whole_file
from seqdance.commands.dyna1.options import ChainOptions
from seqdance.options import FigureFormat

SUFFIX: Final = "-Dyna1"  # of the file names, as published


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ChainOptions):
    """Predict which residues exchange on the micro- to millisecond time scale.

    Input is a sequence (--sequence or --fasta), a structure (--pdb or --cif), both (--use-pdb-seq), or another sequence
    on the backbone of a structure (--pdb or --cif with --sequence). The table includes unresolved residues. Check the
    license of the weights that you load.
    """

    weights: str
    """Classifier: folder, weight file (dyna1.pt), Hub id such as gelnesr/Dyna-1, or a file of a Hub repository."""
    embedder: str | None = None
    """onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], esmc[:NAME][:LAYER] or af2:FOLDER. Default: by
    the weights."""
    cache: Path | None = None
    """Instead of --embedder: file of seqdance dyna1 embed; proteins are found by name."""
    save_dir: Path = Path(".")
    """Folder for NAME-Dyna1.csv (position, residue, p_exchange) and NAME-Dyna1.png."""
    plot_format: FigureFormat = "png"
    """Format of the figures."""
    write_pdb: Path | None = None
    """With --pdb or --cif: copy of the structure with p_exchange (0 to 1) as B-factors, 0 for other atoms; and scripts
    beside it that show it, .pml of PyMOL and .cxc of ChimeraX."""

    def __post_init__(self) -> None:
        self.check_write_pdb(self.write_pdb)
        require(not (self.cache and self.embedder), "give only one of --cache and --embedder")


def predict(options: PredictOptions) -> Iterator[object]:
    """Predict chain by chain; yields notes and paths."""
    import numpy as np
    from tqdm import tqdm

    from model.dyna1.predict import exchange_table, load_with_embedder, predict_exchange
    from model.figures.dyna1 import draw_exchange
    from model.figures.save import save_figure
    from model.inference.inputs import file_names
    from model.inference.structure_scripts import EXCHANGE, write_on_structure

    options = options.with_structure(options.save_dir)
    chains = options.chains()
    bases = [options.save_dir / f"{name}{SUFFIX}" for name in file_names([chain.name for chain in chains])]
    embedder = f"cache:{options.cache}" if options.cache else options.embedder
    classifier, source = load_with_embedder(options.weights, embedder, options.device)
    label = f"{options.weights} {classifier.digest}"
    if options.structure and not source.reads_structure:
        yield f"{source.fingerprint.split()[0]} reads no structure; only the sequence of the chain is used"
    for base, chain in tqdm(list(zip(bases, chains, strict=True)), unit="protein", disable=len(chains) == 1):
        p = predict_exchange(classifier, source, chain)  # (L,)
        table, picture = (base.with_name(f"{base.name}{ending}") for ending in (".csv", f".{options.plot_format}"))
        with whole_file(table) as temporary:
            exchange_table(chain, p).to_csv(temporary, index=False)
        unresolved = np.array([residue == "" for residue in chain.structure_residues or chain.sequence])
        save_figure(draw_exchange(chain.name, chain.sequence, p, unresolved), picture, dpi=110, note=label)
        yield from (table, picture)
        if options.structure and options.write_pdb:
            yield from write_on_structure(options.structure, p, options.write_pdb, chain.chain, EXCHANGE, label)


main = partial(run, PredictOptions, predict)
