"""Make the golden files of this folder from the example data, with the oracles of tests/oracles.

    python tests/data/features/make_goldens.py

- `2juy_contacts.tsv`: contact lines of every 16th frame, by loops over all pairs of atoms;
- `2juy_res_feature.csv`, `2juy_corr.npy`: residue table and displacement correlation of all frames, by MDTraj;
- `1ubi_A_nma.npz`: normal mode features, by ProDy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mdtraj
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "tests" / "oracles"))

import contact_oracle  # noqa: E402
import feature_oracle  # noqa: E402

STRIDE = 16


def main() -> None:
    """Write all files."""
    pdb = ROOT / "data_prepare" / "examples" / "trajectories" / "2juy.pdb"
    xtc = pdb.with_suffix(".xtc")
    atoms, _ = contact_oracle.read_pdb_atoms(pdb.read_text())
    with mdtraj.open(str(xtc)) as file:
        frames = file.read()[0] * np.float32(10)
    lines = []
    for number in range(0, len(frames), STRIDE):
        # the first frame decides on disulfides, hydrophobic carbons and the owners of hydrogens
        found = contact_oracle.contact_lines(atoms, frames[[0, number]])
        lines += sorted(line.replace("1\t", f"{number}\t", 1) for line in found if line.startswith("1\t"))
    (HERE / "2juy_contacts.tsv").write_text("\n".join(lines) + "\n")
    feature_oracle.residue_table(pdb, xtc).to_csv(HERE / "2juy_res_feature.csv", index=False)
    np.save(HERE / "2juy_corr.npy", feature_oracle.displacement_correlation(pdb, xtc))
    msf, cor = feature_oracle.nma(ROOT / "data_prepare" / "examples" / "structures" / "1ubi_A.pdb.gz")
    np.savez_compressed(HERE / "1ubi_A_nma.npz", gnm_msf=msf, anm_cor=cor)


if __name__ == "__main__":
    main()
