"""Residue and pair features of a trajectory, accumulated over chunks of frames in bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import mdtraj
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prepare.errors import InputError, InputWarning, require
from data_prepare.memory import require_memory
from data_prepare.molecular_dynamics.contacts.hydrogen_bond import HydrogenBond
from data_prepare.molecular_dynamics.contacts.kernels import Criteria
from data_prepare.molecular_dynamics.contacts.search import ContactSearch, heavy_atoms_first
from data_prepare.molecular_dynamics.features.carried import HYDROGENS, missing_properties
from data_prepare.molecular_dynamics.features.conformation import ANGLES, Dihedrals, Fluctuations, SecondaryStructure
from data_prepare.molecular_dynamics.features.contacts import ContactCounts, contacts_of_file
from data_prepare.molecular_dynamics.features.sasa import SurfaceAreas, surface_radii
from data_prepare.molecular_dynamics.frames.cell_list import neighbour_lists
from data_prepare.molecular_dynamics.frames.frame_range import ALL_FRAMES, FrameRange
from data_prepare.molecular_dynamics.frames.superpose import superposed
from data_prepare.molecular_dynamics.frames.trajectory import (
    ANGSTROM_PER_NM,
    BrokenFrame,
    Chunk,
    frame_numbers,
    read_chunks,
)
from data_prepare.properties import (
    DSSP_STATES,
    FEATURES,
    FLUCTUATIONS,
    INTERACTIONS,
    MD_PAIR_WIDTH,
    MD_PROPERTIES,
    MD_RESIDUE_WIDTH,
    NUM_ANGLE_BINS,
    PROPERTIES_OF_FEATURE,
    RESIDUE_COLUMNS,
    entry_columns,
    entry_pair_channel,
    entry_residue_columns,
)
from data_prepare.signals import held_signals
from data_prepare.structure.covalent import require_covalent_geometry
from data_prepare.structure.topology import Structure, Topology

BYTES_PER_PAIR: Final = 110  # of residues: contact counts, pair array and covariances, at most
# column of the published table -> column of the residue array
TABLE_COLUMNS: Final = {
    **{f"dssp_{state}": RESIDUE_COLUMNS["ss"][0] + k for k, state in enumerate(DSSP_STATES)},
    "sasa_mean": RESIDUE_COLUMNS["sasa_mean"][0],
    "sasa_std": RESIDUE_COLUMNS["sasa_std"][0],
    **{f"{angle}_{b}": RESIDUE_COLUMNS[angle][0] + b for angle in ANGLES for b in range(NUM_ANGLE_BINS)},
    "rmsf": RESIDUE_COLUMNS["rmsf_nor"][0],
}


class MDFeatures(NamedTuple):
    """Features of N residues; columns and channels as in `properties`, NaN in those of missing properties."""

    ca_atom: NDArray[np.intp]  # (N,) index of the C-alpha atom in the file, without alternate locations
    residue: NDArray[np.float64]  # (N, 47), the RMSF in nm
    pair: NDArray[np.float32]  # (N, N, 10)
    missing: tuple[str, ...]  # properties that were not chosen or that the atoms do not carry

    def table(self) -> pd.DataFrame:
        """The published residue table."""
        columns = {name: self.residue[:, column] for name, column in TABLE_COLUMNS.items()}
        table = pd.DataFrame({"ca_atom": self.ca_atom, **columns})
        return table.astype(dict.fromkeys(("sasa_mean", "sasa_std", "rmsf"), np.float32))


class _Accumulators:
    """Properties of a system. Each chunk is superposed and searched for neighbours once for all of them."""

    def __init__(
        self, topology: Topology, first: Chunk, properties: Collection[str], hbond_of_heavy_atoms: bool
    ) -> None:
        self.atoms = topology.molecule_atoms
        molecule = topology.subset(self.atoms)
        protein = molecule.is_traced
        self._molecule = molecule.to_mdtraj()
        self.ca = np.array([molecule.atoms_by_name[residue]["CA"] for residue in np.flatnonzero(protein)])
        self._reference = first.nm[0, self.atoms[self.ca]].astype(np.float64)  # (N, 3) nm
        self.frames = 0
        self._of_chunks: list[SecondaryStructure | Dihedrals | Fluctuations] = []
        if "ss" in properties:
            self._of_chunks.append(SecondaryStructure(molecule))
        if not {*ANGLES}.isdisjoint(properties):
            self._of_chunks.append(Dihedrals(molecule, first.nm[0, self.atoms]))
        if not {"rmsf_nor", "corr"}.isdisjoint(properties):
            self._of_chunks.append(Fluctuations(self.ca, self._reference))

        # areas and contacts share a neighbour search of the protein atoms, heavy atoms first; caps shield residues and
        # count as one residue behind the last
        caps = np.flatnonzero(~protein[molecule.residue_of_atom])
        self._order = np.concatenate([heavy_atoms_first(molecule), caps])
        residue = np.where(protein, np.cumsum(protein) - 1, len(self.ca))[molecule.residue_of_atom[self._order]]
        self._areas = self._contacts = None
        search_radii = np.zeros(len(residue))  # Angstrom
        if not {"sasa_mean", "sasa_std"}.isdisjoint(properties):
            radii = surface_radii(molecule.elements)[self._order]
            self._areas = SurfaceAreas(radii, residue)
            search_radii[:] = radii * ANGSTROM_PER_NM
        if interactions := [name for name in INTERACTIONS if name in properties]:
            bonds = HydrogenBond(hbond_of_heavy_atoms=hbond_of_heavy_atoms)
            search = ContactSearch(topology, first.angstrom[0], interactions, Criteria(hydrogen_bond=bonds))
            self._contacts = ContactCounts(search, residue[: len(search.atoms)])
            heavy = search_radii[: search.num_heavy]
            np.maximum(heavy, search.radii, out=heavy)
        self._search_radii = search_radii[search_radii > 0]  # contacts alone need no hydrogens

    def add(self, chunk: Chunk) -> None:
        """Add frames."""
        self.frames += len(chunk.numbers)
        xyz = superposed(chunk.nm[:, self.atoms], self.ca, self._reference)
        trajectory = mdtraj.Trajectory(xyz, self._molecule)
        for accumulator in self._of_chunks:
            accumulator.add(trajectory)
        if len(self._search_radii) == 0:
            return
        for frame, nm in zip(chunk.angstrom, trajectory.xyz, strict=True):
            angstrom = frame[self.atoms[self._order]].astype(np.float64)
            # superposition keeps distances, so these are also the neighbours in the superposed frame
            neighbours = neighbour_lists(angstrom[: len(self._search_radii)], self._search_radii)
            if self._contacts is not None:
                self._contacts.add(angstrom, neighbours)
            if self._areas is not None:
                self._areas.add(nm[self._order], neighbours)

    def values(self) -> dict[str, NDArray]:
        """Property name -> values, except contacts."""
        accumulators = [*self._of_chunks, *([self._areas] if self._areas else [])]
        return {name: values for each in accumulators for name, values in each.result(self.frames).items()}

    def pair(self) -> NDArray[np.float32]:
        """Pair array (N, N, 10) with the contacts, if any."""
        shape = len(self.ca), len(self.ca), MD_PAIR_WIDTH
        return self._contacts.result(self.frames) if self._contacts else np.full(shape, np.nan, np.float32)


def md_features(
    topology: Topology,
    trajectory: str | Path | Iterable[Chunk],
    contact_file: str | Path | None = None,
    features: Collection[str] = FEATURES,
    available: int | None = None,
    frames: FrameRange = ALL_FRAMES,
    skip_broken_frames: bool = False,
    hbond_of_heavy_atoms: bool = False,
    fluctuations: bool = True,
    progress: Callable[[int], object] = int,
) -> MDFeatures:
    """Features of the protein residues, or of the residues of a C-alpha model, in a trajectory.

    `trajectory` is a file, of which `frames` are read and made whole as in `read_chunks`, or chunks of frames with all
    atoms of the topology; frames that do not fit the topology are refused, or left out with `skip_broken_frames`, see
    `FrameCheck`. `progress` is called with the number of frames of each chunk that is done. Contacts are read
    from a `contact_file` of the trajectory file, by default computed. `features` are some of `properties.FEATURES`;
    the properties of the others are missing, and so are, with an InputWarning, those that the atoms do not carry, see
    `missing_properties`; `hbond_of_heavy_atoms` finds hydrogen bonds by another definition, without hydrogens, see
    `heavy_hydrogen_bond`. Without `fluctuations` one frame suffices, and `properties.FLUCTUATIONS` are missing.
    `available` are the bytes of memory that may be used, see `require_memory`.

    InputError if the system has no protein of at least 3 residues, fewer than 2 frames or no atoms for any of the
    features; if it needs too much memory; or if the trajectory or contact file cannot be used.
    """
    n = int(topology.is_traced.sum())
    require(
        n >= 3,
        f"{topology.path}: {n} residues with atoms N, CA and C, or CA alone; features require a protein of at least 3",
    )
    require_memory(BYTES_PER_PAIR * n**2, f"{topology.path}: features of {n} residues", available)
    not_carried = missing_properties(topology)
    if hbond_of_heavy_atoms:
        not_carried = {name: atoms for name, atoms in not_carried.items() if atoms != HYDROGENS}
    of_file = None
    if isinstance(trajectory, str | Path):
        if contact_file and "contacts" in features:
            of_file = contacts_of_file(topology, contact_file, frame_numbers(trajectory, frames), not_carried)
            for name in INTERACTIONS:
                if not np.isnan(of_file[0, 0, entry_pair_channel(name)]):
                    not_carried.pop(name, None)
        left_out: list[BrokenFrame] | None = [] if skip_broken_frames else None
        trajectory = read_chunks(topology, trajectory, frames, whole=True, left_out=left_out)
    else:
        require(contact_file is None, f"{contact_file}: requires the trajectory as a file; omit the contact file")
    wanted = {name for feature in features for name in PROPERTIES_OF_FEATURE[feature]}
    wanted -= set() if fluctuations else set(FLUCTUATIONS)
    found = wanted - not_carried.keys()
    told = {name: why for name, why in not_carried.items() if name in wanted}
    if not fluctuations:  # few structures have hydrogens
        told = {name: why for name, why in told.items() if why != HYDROGENS}
    _tell_missing(topology, told, found)
    computed = found - (set() if of_file is None else set(INTERACTIONS))
    accumulators = None
    with held_signals() as let_through:  # compiled code is loaded at the first chunk
        for chunk in trajectory:
            accumulators = accumulators or _Accumulators(topology, chunk, computed, hbond_of_heavy_atoms)
            accumulators.add(chunk)
            progress(len(chunk.numbers))
            let_through()
    enough = accumulators is not None and accumulators.frames >= (1 if found.isdisjoint(FLUCTUATIONS) else 2)
    if accumulators is None or not enough:
        raise InputError(f"{topology.path}: fluctuations require at least 2 frames; choose other frames")

    values, residue = accumulators.values(), np.full((n, MD_RESIDUE_WIDTH), np.nan)
    pair = accumulators.pair() if of_file is None else of_file
    missing = tuple(name for name in MD_PROPERTIES if name not in found)
    pair[..., entry_columns(missing)[1]] = np.nan
    for name in found.difference(INTERACTIONS):
        if name == "corr":
            pair[..., entry_pair_channel(name)] = values[name]
        else:
            residue[:, entry_residue_columns(name)] = values[name][:n].reshape(n, -1)  # without the area of caps
    place = topology.file_index.argsort().argsort()  # of each atom in the file, where residues may be interleaved
    return MDFeatures(place[accumulators.atoms[accumulators.ca]], residue, pair, missing)


def conformation_features(structure: Structure, available: int | None = None) -> MDFeatures:
    """Features of one conformation; fluctuations are missing, and so are hydrogen bonds without hydrogens.

    InputError as in `md_features`, or if the structure lacks the covalent geometry of a protein.
    """
    topology, xyz = structure
    require_covalent_geometry(topology, xyz)
    frame = Chunk(np.zeros(1, np.int64), xyz[None].astype(np.float32), "angstrom")
    return md_features(topology, [frame], available=available, fluctuations=False)


def _tell_missing(topology: Topology, not_carried: Mapping[str, str], found: Collection[str]) -> None:
    """Warn of wanted properties that the atoms do not carry; InputError if none are left."""
    parts = [
        f"{', '.join(names)}, which need {atoms}"
        for atoms in dict.fromkeys(not_carried.values())
        if (names := [name for name in MD_PROPERTIES if not_carried.get(name) == atoms])
    ]
    require(found or not parts, f"{topology.path}: has no atoms for {'; '.join(parts)}; choose other properties")
    if parts:
        warnings.warn(f"{topology.path}: left out {'; '.join(parts)}", InputWarning, stacklevel=3)
