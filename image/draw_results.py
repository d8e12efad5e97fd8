"""Draw results for the README: BPTI in a simulation, a prediction beside it, and a mutation map of ubiquitin.

    python image/draw_results.py [--model demo] [--output image]

They are the features of an example trajectory and of the normal modes of its first frame. The default
network is the small one from `make demo`: it shows what the commands draw, not the quality to expect.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from matplotlib.figure import Figure
from PIL import Image

from data_prepare.normal_mode_analysis.features import nma_features_of
from data_prepare.structure.readers import read_structure
from model.evaluation.measurement import read_measurement
from model.figures.prediction import draw_properties
from model.figures.save import save_figure
from seqdance.commands.compare import CompareOptions, Side, compare
from seqdance.commands.demo import EXAMPLES, UBIQUITIN
from seqdance.commands.score import ScoreConfig, score

HERE = Path(__file__).resolve().parent
WIDTH = 1400  # pixels, maximum


@dataclass(frozen=True)
class ResultsConfig:
    """Network and folder of the figures."""

    model: str = "demo"
    """Built-in name, folder, weight file or Hub id."""
    output: Path = HERE
    """Folder of the figures."""


def draw(config: ResultsConfig) -> list[Path]:
    """Draw the figures; returns their paths."""
    config.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fasta = folder / "ubiquitin.fasta"
        fasta.write_text(f">ubiquitin\n{UBIQUITIN}\n")
        score(ScoreConfig(model=config.model, output=folder / "mutations.csv", fasta=fasta))
        structure, trajectory = (EXAMPLES / "trajectories" / f"5pti.{suffix}" for suffix in ("pdb", "xtc"))
        bpti = f"{structure}:{trajectory}"
        save_figure(draw_measured(bpti, structure), folder / "measured.png", dpi=110)
        labels = {"a": Side(label="simulation, 60 frames"), "b": Side(label="small network")}
        compare(CompareOptions(sources=(bpti,), model=config.model, output=folder / "bpti", **labels))
        names = ("ubiquitin_mutations", "5pti_dynamics", "5pti_comparison")
        paths = [config.output / f"{name}.png" for name in names]
        sources = ("mutations.png", "measured.png", "bpti/comparison.png")
        for path, source in zip(paths, sources, strict=True):
            picture = Image.open(folder / source).convert("RGB")
            picture.thumbnail((WIDTH, WIDTH))
            picture.save(path, optimize=True)
    return paths


def draw_measured(trajectory: str, structure: Path) -> Figure:
    """All properties of a trajectory (TOPOLOGY:TRAJECTORY) and of the normal modes of a structure."""
    measured = read_measurement(trajectory, convergence=False)
    _, modes = nma_features_of(*read_structure(structure))
    properties = dict(measured.properties)
    for k, (fluctuation, correlation) in enumerate(zip(modes.gnm_msf, modes.anm_cor, strict=True), start=1):
        properties |= {f"nma_res{k}": fluctuation, f"nma_pair{k}": correlation}
    title = f"BPTI ({len(measured.residue)} residues): computed, not predicted"
    source = "features of an example simulation (58 ps, 60 frames), and normal modes of its structure"
    return draw_properties([(f"{title}\n{source}", measured.chain, properties)])


if __name__ == "__main__":
    for path in draw(tyro.cli(ResultsConfig)):
        print(path)
