"""Which atoms take part in which interaction: names, radii and rings. Lengths in Angstrom."""

from __future__ import annotations

from typing import Final

# interaction types in the order of the pair features; `hb` asks for the three hydrogen bond types
TYPES: Final = ("vdw", "hbbb", "hbsb", "hbss", "hp", "sb", "pc", "ps", "ts")
ASKED: Final = ("hp", "sb", "pc", "ps", "ts", "vdw", "hb")  # what `all` stands for, in the order of the header

RADII: Final[dict[str, float]] = {
    "H": 1.20,
    "C": 1.70,
    "N": 1.55,
    "O": 1.52,
    "S": 1.80,
    "SE": 1.90,
    "P": 1.80,
    "F": 1.47,
    "CL": 1.75,
    "BR": 1.85,
    "I": 1.98,
    "B": 1.92,
    "SI": 2.10,
    "NA": 2.27,
    "MG": 1.73,
    "K": 2.75,
    "CA": 2.31,
    "ZN": 1.39,
    "CU": 1.40,
    "NI": 1.63,
    "AS": 1.85,
}
UNKNOWN_RADIUS: Final = 1.70

HISTIDINES: Final = ("HIS", "HSD", "HSE", "HSP", "HID", "HIE", "HIP")
ACIDIC: Final[dict[str, tuple[str, ...]]] = {"ASP": ("OD1", "OD2"), "GLU": ("OE1", "OE2")}
BASIC: Final[dict[str, tuple[str, ...]]] = {"LYS": ("NZ",), "ARG": ("NH1", "NH2")} | dict.fromkeys(
    HISTIDINES, ("ND1", "NE2")
)
# three atoms of a ring give its centroid and normal; it is written as the one with the alphabetically smallest name
RINGS: Final[dict[str, tuple[str, str, str]]] = {
    "PHE": ("CG", "CE1", "CE2"),
    "TYR": ("CG", "CE1", "CE2"),
    "TRP": ("CD2", "CZ2", "CZ3"),
} | dict.fromkeys(HISTIDINES, ("CG", "CE1", "CD2"))
HYDROPHOBIC: Final = frozenset(("ALA", "PHE", "GLY", "ILE", "LEU", "PRO", "VAL", "TRP"))
CARBON_NEIGHBOUR_DISTANCE: Final = 1.7  # within it, a hydrophobic carbon has only C and H
DISULFIDE_DISTANCE: Final = 2.1  # SG-SG below it is a disulfide
BACKBONE: Final = frozenset(("N", "O"))
