"""Residue and pair features of a molecular dynamics trajectory.

    python data_prepare/molecular_dynamics/MD_features.py -p PDB -t TRAJ [-i CONTACTS] -o PREFIX

writes PREFIX_res_feature.csv (a row per residue) and PREFIX_pair_feature.npz (key `array`, (N, N, 10)). Chains broken
by the periodic box are made whole; contact files of such trajectories need `--whole`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from data_prepare.command_line import Settings, run
from data_prepare.files import whole_file
from data_prepare.molecular_dynamics.features.md_features import md_features
from data_prepare.molecular_dynamics.frames.frame_range import FrameRange
from data_prepare.molecular_dynamics.frames.trajectory import ALL_FRAMES, frame_numbers
from data_prepare.structure.readers import read_topology


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """Features of a trajectory."""

    pdb: Annotated[Path, tyro.conf.arg(aliases=["-p"])]
    """Topology with hydrogens: PDB, mmCIF, GRO, PSF or PRMTOP."""
    trajectory: Annotated[Path, tyro.conf.arg(aliases=["-t"])]
    """XTC, TRR, DCD, NetCDF or multi-model PDB with the same atoms."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Prefix of the two files to write."""
    interactions: Annotated[Path | None, tyro.conf.arg(aliases=["-i"])] = None
    """Contact file of get_dynamic_contacts.py, made of the whole protein; by default contacts are computed."""
    frames: tyro.conf.OmitArgPrefixes[FrameRange] = ALL_FRAMES
    """Frames to use."""
    skip_broken_frames: bool = False
    """Leave out frames that are damaged instead of stopping at them."""
    debug: bool = False
    """Show the traceback of an error."""


def write_features(options: Options) -> list[Path]:
    """Compute the features and write residue table and pair array to the returned paths."""
    topology = read_topology(options.pdb)
    numbers = frame_numbers(options.trajectory, options.frames)
    with tqdm(total=len(numbers), desc="features", unit="frame") as bar:
        features = md_features(
            topology,
            options.trajectory,
            options.interactions,
            frames=options.frames,
            skip_broken_frames=options.skip_broken_frames,
            progress=bar.update,
        )
    table = options.output.with_name(f"{options.output.name}_res_feature.csv")
    array = options.output.with_name(f"{options.output.name}_pair_feature.npz")
    with whole_file(table) as temporary:
        features.table().to_csv(temporary, index=False)
    with whole_file(array) as temporary:
        np.savez_compressed(temporary, array=features.pair)
    return [table, array]


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    run(Options, write_features, args, description=__doc__)


if __name__ == "__main__":
    main()
