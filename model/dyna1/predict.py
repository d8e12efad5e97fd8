"""Command `seqdance dyna1 predict`: probability of micro- to millisecond exchange of each residue.

    seqdance dyna1 predict --weights gelnesr/Dyna-1 --pdb 2lzm.pdb --chain A --use-pdb-seq --write-pdb

Four modes: a sequence alone (--sequence or --fasta), a structure alone (--pdb or --cif), both (--use-pdb-seq), and
another sequence on the same backbone (--pdb or --cif with --sequence). Residues that a file declares without
coordinates are predicted too. Check the terms of the weights that you load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pandas as pd
import torch
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from data_prepare.errors import InputError, run_command
from data_prepare.files import whole_file, write_text
from model.dyna1.classifier import Classifier, p_exchange
from model.dyna1.embeddings.cache import EmbeddingCache
from model.dyna1.embeddings.chains import ChainInput, chain_inputs, embed_chains
from model.dyna1.embeddings.embedders import make_embedder
from model.dyna1.embeddings.source import Embedder, EmbeddingSource
from model.dyna1.loading import load_dyna1
from model.dyna1.sources import check_source, default_embedder
from model.inference.b_factors import write_b_factors
from model.inference.inputs import file_names

SUFFIX: Final = "-Dyna1"  # of the names of the files, as published
PUTTY: Final = {"transform": "6", "radius": "0.25", "range": "0.1", "scale_max": "10"}
RESIDUES_PER_PANEL: Final = 100  # of the picture
FEWEST_COLUMNS: Final = 60  # it is as wide as these, so that its title has room


@dataclass(frozen=True)
class PredictConfig:
    """Predict which residues exchange on the micro- to millisecond time scale.

    Check the terms of the weights that you load.
    """

    weights: str
    """Classifier: folder, weight file (dyna1.pt), Hub id such as gelnesr/Dyna-1, or a file of a Hub repository."""
    embedder: str | None = None
    """onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER] or af2:FOLDER. Default: as the weights tell."""
    cache: Path | None = None
    """Embeddings written by seqdance dyna1 embed, instead of an embedder; entries are found by name."""
    sequence: str | None = None
    """One sequence; with a structure the sequence to put on its backbone, equally long."""
    fasta: Path | None = None
    """Sequences of a FASTA file (.gz too)."""
    pdb: Path | None = None
    """A PDB file (.gz too)."""
    cif: Path | None = None
    """An mmCIF file (.gz too)."""
    chain: str | None = None
    """Chain of the structure. Default: the only one."""
    use_pdb_seq: bool = False
    """With --pdb or --cif: the model sees the sequence too; without it the structure alone."""
    name: str | None = None
    """Name of the files of a single prediction, which end in -Dyna1. Default: from the input."""
    save_dir: Path = Path(".")
    """Folder for NAME-Dyna1.csv (position, residue, p_exchange) and NAME-Dyna1.png."""
    write_pdb: Annotated[bool, tyro.conf.arg(aliases=["--write-to-pdb"])] = False
    """A copy of the structure with p_exchange as B-factors (0 in other chains), and a PyMOL script that shows it."""
    device: str = "auto"
    """auto takes a GPU if there is one."""
    debug: bool = False
    """Show the traceback of an error."""


def predict(config: PredictConfig) -> list[Path]:
    """Write the predictions and return the paths."""
    structure = config.pdb or config.cif
    if config.write_pdb and structure is None:
        raise InputError("--write-pdb needs the structure; give --pdb or --cif")
    if config.cache and config.embedder:
        raise InputError("--cache and --embedder are given; give one of them")
    given = (config.sequence, config.fasta, config.pdb, config.cif)
    entries = chain_inputs(*given, config.chain, config.use_pdb_seq, config.name)
    bases = [config.save_dir / f"{name}{SUFFIX}" for name in file_names([entry.name for entry in entries])]
    classifier = load_dyna1(config.weights, config.device)
    source = make_embedder(
        f"cache:{config.cache}" if config.cache else config.embedder or default_embedder(classifier.config),
        config.device,
    )
    check_source(classifier.config, source)
    if structure is not None and not source.reads_structure:
        print(f"{source.fingerprint.split()[0]} reads no structure: predicted from the sequence of the chain")

    written = []
    for base, entry in tqdm(list(zip(bases, entries, strict=True)), unit="protein", disable=len(entries) == 1):
        p = predict_exchange(classifier, source, entry)  # (L,)
        if not np.isfinite(p).all():
            raise InputError(
                f"{entry.name}: probabilities that are no numbers from {config.weights}; get or train the weights again"
            )
        files = {ending: base.with_name(f"{base.name}{ending}") for ending in (".csv", ".png", ".pml")}
        with whole_file(files[".csv"]) as temporary:
            table(entry, p).to_csv(temporary, index=False)
        plot_profile(entry, p, files[".png"])
        written += [files[".csv"], files[".png"]]
        if config.write_pdb and structure is not None:
            ending = Path(structure.name.lower().removesuffix(".gz")).suffix
            copy = base.with_name(f"{base.name}{ending}")
            write_b_factors(structure, p, copy, config.chain)
            write_text(files[".pml"], pymol_script(copy.name, entry))
            written += [copy, files[".pml"]]
    return written


def predict_exchange(classifier: Classifier, source: EmbeddingSource, entry: ChainInput) -> NDArray[np.float32]:
    """Probability of exchange of each residue.

    Parameters
    ----------
    classifier
        In evaluation mode, on any device.
    source
        Embeddings as those that it was trained on.
    entry
        One chain; an embedder that reads no structure sees its sequence.

    Returns
    -------
    (L,) float32 from 0 to 1.

    Raises
    ------
    InputError
        The entry cannot be used, its embedding is not finite, or the memory does not suffice.
    """
    device = next(classifier.parameters()).device
    if not source.reads_structure:
        entry = entry.sequence_alone()
    try:
        if isinstance(source, Embedder):
            embedding = embed_chains(source, [entry])[0]
        elif isinstance(source, EmbeddingCache):
            embedding = source.read_entry(entry)
        else:
            embedding = source.read(entry.name, entry.sequence)
        if not embedding.isfinite().all():
            where = source.path if isinstance(source, EmbeddingCache) else source.fingerprint
            raise InputError(f"{entry.name}: its embedding by {where} has numbers that are not finite; make it again")
        padding = torch.zeros(1, len(entry.sequence), dtype=torch.bool, device=device)
        with torch.inference_mode():
            logits = classifier(embedding[None].to(device), padding)[0]  # (L,)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise InputError(
            f"{entry.name}: {len(entry.sequence)} residues do not fit into the memory ({device}); take --device cpu or "
            "a machine with more of it, or write a --cache elsewhere"
        ) from None
    return p_exchange(logits).float().cpu().numpy()


def table(entry: ChainInput, p: NDArray[np.float32]) -> pd.DataFrame:
    """Columns position (from 1), residue, p_exchange; with a structure structure_residue, empty if unresolved."""
    columns = {"position": np.arange(1, len(p) + 1), "residue": list(entry.sequence), "p_exchange": p}
    if entry.structure_residues is not None:
        columns["structure_residue"] = list(entry.structure_residues)
    return pd.DataFrame(columns)


def pymol_script(structure: str, entry: ChainInput) -> str:
    """PyMOL commands that load a structure beside the script and draw its B-factors as width and colour."""
    chain = next((label.split(":")[0] for label in entry.structure_residues or () if label), "")
    shown = f"dyna1 and chain {chain}" if chain != "X" else "dyna1"  # X stands for a blank id
    lines = [
        f"load {structure}, dyna1",
        "hide everything",
        f"show cartoon, {shown}",
        f"cartoon putty, {shown}",
        *(f"set cartoon_putty_{name}, {value}" for name, value in PUTTY.items()),
        f"spectrum b, white_red, {shown}, minimum=0, maximum=1",
        f"orient {shown}",
    ]
    return "\n".join(lines) + "\n"


def plot_profile(entry: ChainInput, p: NDArray[np.float32], path: str | Path) -> None:
    """Picture of p_exchange along the sequence, 100 residues in a row, residues without coordinates shaded."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    starts = range(0, len(p), RESIDUES_PER_PANEL)
    position = np.arange(1, len(p) + 1)
    unresolved = np.array([label == "" for label in entry.structure_residues or ["-"] * len(p)])
    # fixed places in inches: an automatic layout of so many letters takes seconds
    columns = max(FEWEST_COLUMNS, min(RESIDUES_PER_PANEL, len(p)))
    width, top, row, panel = 0.9 + 0.11 * columns, 0.5, 1.6, 1.1
    height = top + row * len(starts)
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    for number, start in enumerate(starts):
        rows = slice(start, start + RESIDUES_PER_PANEL)
        floor = height - top - number * row - panel
        axes = figure.add_axes((0.7 / width, floor / height, (width - 0.9) / width, panel / height))
        axes.bar(position[rows], p[rows], width=0.8, color="#0072B2")
        axes.bar(position[rows][unresolved[rows]], 1.0, width=1.0, color="#DDDDDD", zorder=0)
        for place, letter in zip(position[rows], entry.sequence[rows], strict=True):
            axes.text(place, -0.04, letter, ha="center", va="top", fontsize=7, family="monospace")
        axes.set_xlim(start + 0.2, start + columns + 0.8)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.5, 1])
        axes.set_ylabel("p_exchange", fontsize=9)
        axes.set_xticks([start + 1, *range(start + 10, min(start + RESIDUES_PER_PANEL, len(p)) + 1, 10)])
        axes.tick_params(axis="x", pad=12, length=0)
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    shaded = "; shaded: no coordinates" if unresolved.any() else ""
    title = f"{entry.name}: probability of µs-ms exchange of each residue{shaded}"
    figure.text(0.5, 1 - 0.25 / height, title, ha="center", va="center", fontsize=12)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    config = tyro.cli(PredictConfig, args=args)
    for path in run_command(lambda: predict(config), config.debug):
        print(path)


if __name__ == "__main__":
    main()
