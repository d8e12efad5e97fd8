"""Draw results of a network for the README: predicted dynamics and mutation map of ubiquitin, comparison of BPTI.

    python image/draw_results.py [--model demo] [--output image]

The default network is the small one from `make demo`: it shows what the commands draw, not the quality to expect.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image

from seqdance.commands.compare import CompareOptions, Side, compare
from seqdance.commands.demo import EXAMPLES, UBIQUITIN
from seqdance.commands.predict import PredictOptions, predict
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
        predict(PredictOptions(model=config.model, output=folder / "predictions", fasta=fasta, plot=True))
        bpti = ":".join(str(EXAMPLES / "trajectories" / f"5pti.{suffix}") for suffix in ("pdb", "xtc"))
        labels = {"a": Side(label="simulation, 60 frames"), "b": Side(label="small network")}
        compare(CompareOptions(sources=(bpti,), model=config.model, output=folder / "bpti", **labels))
        names = ("ubiquitin_mutations", "ubiquitin_prediction", "5pti_comparison")
        paths = [config.output / f"{name}.png" for name in names]
        sources = ("mutations.png", "predictions/ubiquitin.png", "bpti/comparison.png")
        for path, source in zip(paths, sources, strict=True):
            picture = Image.open(folder / source).convert("RGB")
            picture.thumbnail((WIDTH, WIDTH))
            picture.save(path, optimize=True)
    return paths


if __name__ == "__main__":
    for path in draw(tyro.cli(ResultsConfig)):
        print(path)
