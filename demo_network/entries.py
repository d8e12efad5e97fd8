"""The proteins of the demonstration network: a manifest of structures and trajectories, split by sequence clusters.

Whole clusters are held out: those of the test entries of the example data, which `seqdance demo` tests on, those of
the three proteins that the picture shows, and a tenth of the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from data_prepare.dataset.splits import label_clusters, mmseqs_clusters
from data_prepare.properties import CONFORMATIONS, NMA_GROUPS
from data_prepare.sources.manifest import COLUMNS, read_manifest
from data_prepare.structure.readers import read_topology
from data_prepare.structure.sequence import CHAIN_LINKER

EXAMPLES: Final = Path(__file__).resolve().parents[1] / "data_prepare" / "examples"
SETS: Final = ("bm5", "tsuboyama", "s2648")  # folders of DATA/structures
MD: Final = "ATLAS_GPCRmd_PED_mdCATH"
TRAJECTORIES: Final = {"ubq": ("ubq.pdb", "ubq_1ns.xtc"), "bpti": ("bpti.gro", "bpti.xtc")}  # in DATA/trajectories
SHOWN: Final = {"s2648_1ubq_A": "ubiquitin", "s2648_1bni_A": "barnase", "tsuboyama_1ENH": "engrailed homeodomain"}
IDENTITY: Final = 0.3  # within a cluster
TEST_SHARE: Final = 0.1
SEED: Final = 0


def write_manifest(data: Path, path: Path) -> None:
    """Write the manifest of a folder with `structures` and `trajectories`, and of the example data; paths absolute.

    Each structure has an entry with its normal modes, and one as a conformation.
    """
    rows = []
    for entry in read_manifest(EXAMPLES / "examples.csv"):
        trajectory = ";".join(map(str, entry.paths[1:]))
        rows.append((f"example_{entry.name}", entry.source, entry.group, entry.label, entry.path, trajectory))
    for name, files in TRAJECTORIES.items():
        topology, trajectory = (data / "trajectories" / file for file in files)
        rows.append((f"trajectory_{name}", "trajectories", MD, "", topology, str(trajectory)))
    for folder in SETS:
        for file in sorted((data / "structures" / folder).glob("*.pdb.gz")):
            name = f"{folder}_{file.name.removesuffix('.pdb.gz')}"
            rows.append((name, "structures", NMA_GROUPS[0], "test" if name in SHOWN else "", file, ""))
    table = pd.DataFrame(rows, columns=["name", "source", "group", "label", "topology", "trajectory"])
    sequences = {name: CHAIN_LINKER.join(sequences_of(file)) for name, file in table[["name", "topology"]].to_numpy()}
    clusters = mmseqs_clusters(sequences, IDENTITY)
    held_out = dict.fromkeys(table.loc[table["label"] == "test", "name"], "test")
    table["label"] = table["name"].map(label_clusters(sequences, clusters, held_out, TEST_SHARE, SEED)[0])
    table["cluster"] = table["name"].map(clusters)
    structures = table[table["group"].isin(NMA_GROUPS)]
    named = structures.assign(name=structures["name"] + "_conformation", group=CONFORMATIONS)
    table = pd.concat([table, named], ignore_index=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    table[[*COLUMNS, "group", "cluster"]].to_csv(path, index=False)


def sequences_of(path: Path) -> list[str]:
    """Sequences of the protein chains of a structure or topology file."""
    return read_topology(path).traced.full_sequences()[0]
