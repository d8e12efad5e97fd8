"""Residue and pair features of a molecular dynamics trajectory.

    python data_prepare/molecular_dynamics/MD_features.py -p PDB -t TRAJ [-i CONTACTS] -o PREFIX

writes PREFIX_res_feature.csv (a row per residue) and PREFIX_pair_feature.npz (key `array`, (N, N, 10)). Chains broken
by the periodic box are made whole; contact files of such trajectories need `--whole`. Models without hydrogens, with
backbones or with C-alpha atoms only have fewer properties; the others are empty cells, and NaN in the array.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings, run
from data_prepare.errors import require
from data_prepare.files import whole_file
from data_prepare.molecular_dynamics.frames.frame_range import ALL_FRAMES, FrameRange
from data_prepare.properties import FEATURES


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """Features of a trajectory."""

    pdb: Annotated[Path, tyro.conf.arg(aliases=["-p"])]
    """Topology: PDB, mmCIF, GRO, PSF or PRMTOP."""
    trajectory: Annotated[Path, tyro.conf.arg(aliases=["-t"])]
    """XTC, TRR, DCD, NetCDF or multi-model PDB with the same atoms."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Prefix of the two files to write."""
    interactions: Annotated[Path | None, tyro.conf.arg(aliases=["-i"])] = None
    """Contact file of get_dynamic_contacts.py, made of the whole protein; by default contacts are computed."""
    frames: tyro.conf.OmitArgPrefixes[FrameRange] = ALL_FRAMES
    """Frames to use."""
    properties: Annotated[tuple[Literal[FEATURES], ...], Field(min_length=1)] = FEATURES  # type: ignore[valid-type]
    """Features to compute."""
    skip_broken_frames: bool = False
    """Leave out frames that are damaged instead of stopping at them."""
    hbond_of_heavy_atoms: bool = False
    """Find hydrogen bonds by another definition, without hydrogens; the npz says so (key `hydrogen_bonds`)."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        wanted = self.interactions is None or "contacts" in self.properties
        require(wanted, "--interactions requires contacts in --properties")


def write_features(options: Options) -> list[Path]:
    """Compute the features and write residue table and pair array to the returned paths."""
    import numpy as np
    from tqdm import tqdm

    from data_prepare.molecular_dynamics.features.md_features import md_features
    from data_prepare.molecular_dynamics.frames.trajectory import frame_numbers
    from data_prepare.structure.readers import read_topology

    topology = read_topology(options.pdb)
    numbers = frame_numbers(options.trajectory, options.frames)
    with tqdm(total=len(numbers), desc="features", unit="frame", delay=0.1) as bar:  # errors of input come first
        features = md_features(
            topology,
            options.trajectory,
            options.interactions,
            options.properties,
            frames=options.frames,
            skip_broken_frames=options.skip_broken_frames,
            hbond_of_heavy_atoms=options.hbond_of_heavy_atoms,
            progress=bar.update,
        )
    table = options.output.with_name(f"{options.output.name}_res_feature.csv")
    array = options.output.with_name(f"{options.output.name}_pair_feature.npz")
    with whole_file(table) as temporary:
        features.table().to_csv(temporary, index=False)
    with whole_file(array) as temporary:
        definition: dict[str, Any] = {"hydrogen_bonds": "of heavy atoms"} if options.hbond_of_heavy_atoms else {}
        np.savez_compressed(temporary, array=features.pair, **definition)
    return [table, array]


main = partial(run, Options, write_features, description=__doc__)

if __name__ == "__main__":
    main()
