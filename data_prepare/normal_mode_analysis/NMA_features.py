"""Normal mode features of a structure: Gaussian and anisotropic network models on C-alpha atoms.

    python data_prepare/normal_mode_analysis/NMA_features.py -i PDB -o PREFIX

writes PREFIX.npz with gnm_msf (3, N) and anm_cor (3, N, N).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings, run
from data_prepare.files import whole_file


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """Normal mode features of a structure."""

    input: Annotated[Path, tyro.conf.arg(aliases=["-i"])]
    """PDB or mmCIF file, optionally gzipped."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Prefix of the npz file to write."""
    debug: bool = False
    """Show the traceback of an error."""


def write_features(options: Options) -> list[Path]:
    """Compute the features and write them to the returned path."""
    import numpy as np

    from data_prepare.normal_mode_analysis.features import nma_features_of
    from data_prepare.structure.readers import read_structure

    _, features = nma_features_of(*read_structure(options.input))
    output = options.output.with_name(f"{options.output.name}.npz")
    with whole_file(output) as temporary:
        np.savez_compressed(temporary, gnm_msf=features.gnm_msf, anm_cor=features.anm_cor)
    return [output]


main = partial(run, Options, write_features, description=__doc__)

if __name__ == "__main__":
    main()
