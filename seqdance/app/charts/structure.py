"""What the 3D viewer (Mol*) shows: a structure with one value per residue as its colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from data_prepare.structure.readers import PDB_SUFFIXES
from model.inference.inputs import ResidueId
from model.inference.structure_scripts import PALETTE


def viewer_data(content: bytes, suffix: str, chains: Iterable[str], scale: tuple[float, float]) -> dict[str, Any]:
    """Input of the viewer: cartoon of the chains of a file with this suffix.

    B-factors are colours, dark at the low end of the scale, yellow at the high one.
    """
    # Mol* reverses the colours of B-factors
    colours = [int(colour[1:], 16) for colour in reversed(PALETTE)]
    palette = {"domain": list(scale), "list": {"kind": "interpolate", "colors": colours}}
    look = {"type": "cartoon", "color": "uncertainty", "colorParams": palette}
    part = {"label": "protein", "targets": [target(chain) for chain in chains], "representation": [look]}
    kind = "pdb" if suffix in PDB_SUFFIXES else "mmcif"
    text = content.decode(errors="replace")
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
