"""A value per residue on a structure: a copy with it as B-factors, and scripts of PyMOL and ChimeraX that show it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from data_prepare.files import write_text
from model.inference.b_factors import write_b_factors
from model.inference.inputs import select_protein

PALETTE: Final = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")  # from 0 to 1; told apart by the colour-blind
WITHOUT_VALUE: Final = -1.0  # B-factor of residues without a value, which are grey


@dataclass(frozen=True)
class Measure:
    """A value from 0 to 1 of each residue."""

    name: str  # of the object in PyMOL
    title: str


RMSF: Final = Measure("rmsf", "predicted RMSF, relative to the largest of the protein")
DAMAGE: Final = Measure("damage", "mean damage of the mutants of a residue, as fraction of all mutants")
EXCHANGE: Final = Measure("p_exchange", "probability of micro- to millisecond exchange")


def script_paths(copy: Path) -> tuple[Path, Path]:
    """Files of the scripts of PyMOL and ChimeraX beside the copy of a structure."""
    plain = copy.with_suffix("") if copy.suffix.lower() == ".gz" else copy
    return plain.with_suffix(".pml"), plain.with_suffix(".cxc")


def write_on_structure(
    structure: Path, values: ArrayLike, copy: Path, chain: str | None, measure: Measure, model: str
) -> list[Path]:
    """Write the copy and both scripts, and return their paths.

    `values` (N,) from 0 to 1, NaN without one, are those of `write_b_factors`; `model` names the network. The scripts
    find the copy beside them, so that the folder can be moved.
    """
    from data_prepare.structure.readers import read_topology  # imports gemmi, which training nodes may lack

    numbers = np.asarray(values, np.float64)
    write_b_factors(structure, np.where(np.isnan(numbers), WITHOUT_VALUE, numbers), copy, chain)
    chains = [] if chain is None else list(dict.fromkeys(select_protein(read_topology(structure), chain).chain_ids))
    paths = script_paths(copy)
    for path, script in zip(paths, (pymol_script, chimerax_script), strict=True):
        write_text(path, script(copy.name, chains, measure, model))
    return [copy, *paths]


def pymol_script(file: str, chains: list[str], measure: Measure, model: str) -> str:
    """PyMOL commands; the folder is that of the script, in whatever folder PyMOL runs. Without chains: all."""
    name, several = measure.name, "+".join(chains)
    shown = f"{name} and polymer" + (f" and chain {several}" if several else "")
    colours = [f"seqdance_{number}" for number in range(len(PALETTE))]
    rgb = [[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in PALETTE]
    definitions = [f"set_color {colour}, {values}" for colour, values in zip(colours, rgb, strict=True)]
    return "\n".join(
        [
            *_comments(measure, model),
            "import os",
            f'cmd.load(os.path.join(os.path.dirname(cmd._pymol.__script__), {json.dumps(file)}), "{name}")',
            *definitions,
            f"hide everything, {name}",
            f"show cartoon, {name}",
            f"color grey80, {name}",
            f"spectrum b, {' '.join(colours)}, {shown}, minimum=0, maximum=1",
            f"color grey80, {name} and b < 0",
            f"orient {name}",
            "",
        ]
    )


def chimerax_script(file: str, chains: list[str], measure: Measure, model: str) -> str:
    """ChimeraX commands for a new session; paths are relative to the folder of the script. Without chains: all."""
    shown = f"#1/{','.join(chains)} & protein" if any(chains) else "#1 & protein"
    labels = [f"{number / (len(PALETTE) - 1):g}" for number in range(len(PALETTE))]
    key = " ".join(f"{colour}:{label}" for colour, label in zip(PALETTE, labels, strict=True))
    return "\n".join(
        [
            *_comments(measure, model),
            f"open {json.dumps(file, ensure_ascii=False)}",
            "hide #1 atoms",
            "cartoon #1",
            "color #1 light gray",
            f"color byattribute a:bfactor {shown} target abcs palette {':'.join(PALETTE)} range 0,1",
            "color #1@@bfactor<0 light gray",
            f"key {key} ticks true",
            "view",
            "",
        ]
    )


def _comments(measure: Measure, model: str) -> list[str]:
    return [f"# {measure.title}: dark is 0, yellow is 1, grey has no value", f"# {model}"]
