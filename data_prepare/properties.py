"""The 50 residue and 13 pair properties: names, order, columns, bins and groups.

Three column layouts exist:

- the network predicts all: residue columns 0-49, pair channels 0-12;
- entries from molecular dynamics (MD) hold residue columns 0-46 and pair channels 0-9;
- entries from normal mode analysis (NMA) hold residue columns 47-49 and pair channels 10-12 (as 0-2 of their arrays).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

# property -> (first column, number of columns) in the network's residue output
RESIDUE_COLUMNS: Final[dict[str, tuple[int, int]]] = {
    "sasa_mean": (0, 1),  # nm^2
    "sasa_std": (1, 1),  # nm^2
    "rmsf_nor": (2, 1),  # RMSF / its maximum in the protein
    "ss": (3, 8),  # fraction of frames in each DSSP state
    "chi": (11, 12),  # fraction of frames in each bin of the angle
    "phi": (23, 12),
    "psi": (35, 12),
    "nma_res1": (47, 1),  # GNM mean square fluctuation of the low-, middle- and high-frequency modes
    "nma_res2": (48, 1),
    "nma_res3": (49, 1),
}

# property -> channel in the network's pair output
PAIR_CHANNELS: Final[dict[str, int]] = {
    "vdw": 0,
    "hbbb": 1,
    "hbsb": 2,
    "hbss": 3,
    "hp": 4,
    "sb": 5,
    "pc": 6,
    "ps": 7,
    "ts": 8,
    "corr": 9,  # correlation of C-alpha displacements
    "nma_pair1": 10,  # ANM displacement correlation of the three groups of modes
    "nma_pair2": 11,
    "nma_pair3": 12,
}

RESIDUE_PROPERTIES: Final = tuple(RESIDUE_COLUMNS)
PAIR_PROPERTIES: Final = tuple(PAIR_CHANNELS)
PROPERTIES: Final = RESIDUE_PROPERTIES + PAIR_PROPERTIES
NUM_RESIDUE_OUTPUTS: Final = 50
NUM_PAIR_OUTPUTS: Final = 13

INTERACTIONS: Final = PAIR_PROPERTIES[:9]  # contact types, in channel order
HYDROGEN_BONDS: Final = ("hbbb", "hbsb", "hbss")  # between backbone and side chain atoms
DSSP_STATES: Final = ("B", "E", "H", "I", "G", "S", "T", " ")
NUM_ANGLE_BINS: Final = 12  # of 30 degrees, from -pi

NMA_PROPERTIES: Final = ("nma_res1", "nma_res2", "nma_res3", "nma_pair1", "nma_pair2", "nma_pair3")
MD_PROPERTIES: Final = tuple(name for name in PROPERTIES if name not in NMA_PROPERTIES)

# feature of a trajectory that a user can choose -> its properties
PROPERTIES_OF_FEATURE: Final[dict[str, tuple[str, ...]]] = {
    "sasa": ("sasa_mean", "sasa_std"),
    "rmsf": ("rmsf_nor",),
    "ss": ("ss",),
    "dihedrals": ("chi", "phi", "psi"),
    "contacts": INTERACTIONS,
    "corr": ("corr",),
}
FEATURES: Final = tuple(PROPERTIES_OF_FEATURE)

# columns of an entry's own arrays
MD_RESIDUE_WIDTH: Final = 47
MD_PAIR_WIDTH: Final = 10
NMA_RESIDUE_WIDTH: Final = 3
NMA_PAIR_WIDTH: Final = 3

# training group -> published data sets (column `source` of the training table)
SOURCES_OF_GROUP: Final[dict[str, tuple[str, ...]]] = {
    "ATLAS_GPCRmd_PED_mdCATH": ("ATLAS", "GPCRmd", "PED", "mdCATH"),
    "IDRome": ("IDRome",),
    "Proteinflow": ("proteinflow_pdb", "proteinflow_sabdab"),
}
GROUPS: Final = tuple(SOURCES_OF_GROUP)  # of the published training
CONFORMATIONS: Final = "conformations"  # MD properties of one structure, those without fluctuations
ALL_GROUPS: Final = (*GROUPS, CONFORMATIONS)
NMA_GROUPS: Final = ("Proteinflow",)
STRUCTURE_GROUPS: Final = (*NMA_GROUPS, CONFORMATIONS)  # their entries are structures, those of the others trajectories
FLUCTUATIONS: Final = ("sasa_std", "rmsf_nor", "corr")  # that a single conformation does not have
GROUP_OF_SOURCE: Final[dict[str, str]] = {
    source: group for group, sources in SOURCES_OF_GROUP.items() for source in sources
}

# unit of each property by name, as `token_space.named_properties` gives them; rmsf is the RMSF before normalisation
UNITS: Final[dict[str, str]] = {
    "sasa_mean": "nm^2",
    "sasa_std": "nm^2",
    "rmsf": "nm",
    "rmsf_nor": "fraction of the maximum",
    **dict.fromkeys(("ss", "chi", "phi", "psi"), "fraction of frames"),
    **dict.fromkeys(INTERACTIONS, "contacts per frame"),
    "corr": "correlation",
    **dict.fromkeys(("nma_res1", "nma_res2", "nma_res3"), "arbitrary"),
    **dict.fromkeys(("nma_pair1", "nma_pair2", "nma_pair3"), "correlation"),
}

MISSING: Final = -1.0  # value of rows and pairs without data: <cls>, <eos>, linkers, unresolved residues


def group_of(source: str, group: str = "") -> str | None:
    """Training group of an entry: `group` if given, else that of its source; None if unknown.

    A source may be the name of a group, as in tables without a column `group`.
    """
    name = group or GROUP_OF_SOURCE.get(source, source)
    return name if name in ALL_GROUPS else None


def properties_of_group(group: str) -> tuple[str, ...]:
    """Properties of the entries of a training group: those of NMA for Proteinflow, those of MD for the others."""
    return NMA_PROPERTIES if group in NMA_GROUPS else MD_PROPERTIES


def table_columns(name: str) -> list[str]:
    """Columns of a residue property in tables: `rmsf_nor`, `ss_H`, `ss_none`, `phi_-180_-150` in degrees."""
    width = RESIDUE_COLUMNS[name][1]
    if name == "ss":
        return [f"ss_{state.strip() or 'none'}" for state in DSSP_STATES]
    edges = range(-180, 180, 360 // NUM_ANGLE_BINS)
    return [name] if width == 1 else [f"{name}_{edge}_{edge + 360 // NUM_ANGLE_BINS}" for edge in edges]


def entry_residue_columns(name: str) -> slice:
    """Columns of a residue property in an entry's own residue array (MD: 47 columns, NMA: 3 columns)."""
    first, width = RESIDUE_COLUMNS[name]
    if name in NMA_PROPERTIES:
        first -= MD_RESIDUE_WIDTH
    return slice(first, first + width)


def entry_pair_channel(name: str) -> int:
    """Channel of a pair property in an entry's own pair array (MD: 10 channels, NMA: 3 channels)."""
    return PAIR_CHANNELS[name] - (MD_PAIR_WIDTH if name in NMA_PROPERTIES else 0)


def entry_columns(names: Collection[str]) -> tuple[list[int], list[int]]:
    """Columns and channels of properties in an entry's own residue and pair array."""
    slices = [entry_residue_columns(name) for name in RESIDUE_PROPERTIES if name in names]
    columns = [column for own in slices for column in range(own.start, own.stop)]
    return columns, [entry_pair_channel(name) for name in PAIR_PROPERTIES if name in names]
