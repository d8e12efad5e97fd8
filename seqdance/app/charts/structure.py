"""What the 3D viewer (Mol*) shows: a structure with one value per residue as its colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prepare.structure.readers import PDB_SUFFIXES
from model.inference.b_factors import write_b_factors
from model.inference.inputs import ResidueId
from model.inference.structure_scripts import PALETTE, WITHOUT_VALUE
from seqdance.app.given import Choice, File


def with_b_factors(choice: Choice, values: NDArray[Any]) -> File:
    """The structure of a choice with the values (N,) as B-factors; NaN becomes -1, as in the commands."""
    assert choice.structure is not None
    with choice.structure.on_disk() as path:
        copy = path.with_name(f"coloured{path.suffix}")
        write_b_factors(path, np.nan_to_num(values, nan=WITHOUT_VALUE), copy, choice.chain)
        return File(f"{choice.structure.stem}{path.suffix}", copy.read_bytes())


def viewer_data(choice: Choice, values: NDArray[Any], scale: tuple[float, float]) -> dict[str, Any]:
    """Input of the viewer: cartoon of the chosen chains, dark at the low end of the scale, yellow at the high one."""
    file = with_b_factors(choice, values)
    # Mol* reverses the colours of B-factors
    colours = [int(colour[1:], 16) for colour in reversed(PALETTE)]
    palette = {"domain": list(scale), "list": {"kind": "interpolate", "colors": colours}}
    look = {"type": "cartoon", "color": "uncertainty", "colorParams": palette}
    chains = dict.fromkeys(residue.chain for residue in choice.protein.residue_ids)
    part = {"label": "protein", "targets": [target(chain) for chain in chains], "representation": [look]}
    kind = "pdb" if file.suffix in PDB_SUFFIXES else "mmcif"
    text = file.content.decode(errors="replace")
    return {"type": "mol", "data": text, "format": kind, "preset": {"kind": "empty"}, "component": [part]}


def target(chain: str, residue: ResidueId | None = None) -> dict[str, Any]:
    """A chain, or a residue of it, for the viewer."""
    residues = []
    if residue is not None and residue.number:
        number = residue.number.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
        residues = [{"number": int(number), "ins_code": residue.number[len(number) :], "atoms": []}]
    return {"auth": True, "chains": [{"name": chain, "auth_name": chain, "residues": residues}]}


def position_of(focus: dict[str, Any] | None, residues: Sequence[ResidueId]) -> int | None:
    """Position (from 0) of the residue that the user has clicked in the viewer; None if it is none of ours."""
    for chain in (focus or {}).get("chains") or []:
        for found in chain.get("residues") or []:
            number = f"{found.get('number')}{found.get('ins_code') or ''}"
            for position, residue in enumerate(residues):
                if (residue.chain, residue.number) == (chain.get("auth_name"), number):
                    return position
    return None
