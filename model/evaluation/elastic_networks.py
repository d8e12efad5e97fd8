"""Physics baselines from a structure: the slowest modes of the Gaussian (GNM) and the anisotropic network (ANM).

The networks and their springs are those of the normal mode features (`data_prepare.normal_mode_analysis`), not plain
cutoff models. With the displacements u of the 20 slowest non-trivial modes, each of variance 1 / eigenvalue, the
fluctuation of residue i is sqrt(<u_i u_i>) and the co-movement of i and j <u_i u_j> / sqrt(<u_i u_i> <u_j u_j>). Their
scale is arbitrary: only correlations with a target are meaningful.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prepare.correlation import correlation
from data_prepare.dataset.token_space import token_rows
from data_prepare.errors import named, require
from data_prepare.structure.sequence import CHAIN_LINKER, align_to_sequence
from model.network.tokenizer import split_tokens

if TYPE_CHECKING:
    from data_prepare.structure.topology import Topology

NUM_MODES: Final = 20
NETWORKS: Final = ("gnm", "anm")

Array = NDArray[np.float64]


class Profile(NamedTuple):
    """Dynamics of N residues, or of T tokens, from one network."""

    fluctuation: Array  # (N,) root mean square, arbitrary unit
    comovement: Array  # (N, N) correlation of displacements


def network_profiles(xyz: NDArray) -> dict[str, Profile]:
    """Profiles of C-alpha positions (N, 3) in Angstrom, by `gnm` and `anm`."""
    from data_prepare.normal_mode_analysis.elastic_network import elastic_networks, modes

    require(np.isfinite(xyz).all(), "a C-alpha coordinate is not a number; correct the file")
    n = len(xyz)
    profiles = {}
    for network, matrix in zip(NETWORKS, elastic_networks(np.asarray(xyz, np.float64)), strict=True):
        values, vectors = modes(matrix)  # ANM: rows x of all points, then y, then z
        kept = vectors[:, :NUM_MODES] / np.sqrt(values[:NUM_MODES])  # (N, modes) or (3N, modes)
        displacements = kept.reshape(n, -1, order="F")  # (N, modes) or (N, 3 * modes)
        covariance = displacements @ displacements.T  # (N, N)
        profiles[network] = Profile(np.sqrt(np.diag(covariance)), correlation(covariance))
    return profiles


def structure_profiles(folder: Path, name: str, modify_seq: str) -> dict[str, Profile]:
    """Profiles of T tokens, by `gnm` and `anm`, from all C-alpha atoms of the structure of an entry.

    The file is NAME.pdb or NAME.cif in `folder`, gzipped or not, with the chains in the order of `modify_seq`. Special
    tokens and unresolved residues are NaN. InputError if the file is missing, unreadable or of another sequence.
    """
    # training nodes may lack the structure libraries
    from data_prepare.normal_mode_analysis.features import c_alpha_trace
    from data_prepare.structure.readers import find_structure, read_structure

    path = find_structure(folder, name)
    trace, xyz = c_alpha_trace(*read_structure(path))
    chains = [split_tokens(chain) for chain in modify_seq.split(CHAIN_LINKER)]
    rows = token_rows([len(chain) for chain in chains])[residue_indices(trace, chains)]  # (N,)
    tokens = sum(map(len, chains)) + 2 * len(chains)
    with named(path):
        profiles = network_profiles(xyz)
    in_tokens = {}
    for network, profile in profiles.items():
        fluctuation, comovement = np.full(tokens, np.nan), np.full((tokens, tokens), np.nan)
        fluctuation[rows], comovement[np.ix_(rows, rows)] = profile
        in_tokens[network] = Profile(fluctuation, comovement)
    return in_tokens


def residue_indices(trace: Topology, chains: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Index (N,) of each residue of a structure among the letters of all chains.

    From the sequences that the file declares if they are equal, else by alignment; the letters must match.
    """
    declared, indices = trace.full_sequences()
    if declared == ["".join(chain) for chain in chains]:
        return indices
    observed = trace.chain_sequences()
    require(
        len(observed) == len(chains),
        f"{trace.path}: {len(observed)} protein chains, modify_seq has {len(chains)}; keep those of the entry",
    )
    found: list[NDArray[np.int64]] = []
    start = 0
    for number, (letters, chain) in enumerate(zip(observed, chains, strict=True)):
        numbers = trace.residue_numbers[trace.chain_of_residue == number].tolist()
        aligned = align_to_sequence(letters, numbers, chain)
        require(
            aligned[0] >= 0 and all(chain[at] == letter for at, letter in zip(aligned, letters, strict=True)),
            f"{trace.path}: the residues of chain {trace.chain_ids[number] or 'X'} differ from modify_seq; "
            "give the structure of this sequence",
        )
        found.append(start + np.array(aligned))
        start += len(chain)
    return np.concatenate(found)
