"""Draw results of a network for the README: predicted dynamics and the mutation map of ubiquitin.

    python image/draw_results.py [--model notebook/checkpoint] [--output image]

The default network is the small one that `make demo` trains: it shows what the commands draw, not how good a network
can be.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image

from seqdance.commands.demo import UBIQUITIN
from seqdance.commands.predict import PredictOptions, predict
from seqdance.commands.score import ScoreConfig, score

HERE = Path(__file__).resolve().parent
WIDTH = 1400  # pixels, at most


@dataclass(frozen=True)
class ResultsConfig:
    """Network and folder of the figures."""

    model: str = str(HERE.parent / "notebook" / "checkpoint")
    """Folder, weight file or Hub id."""
    output: Path = HERE
    """Folder of the figures."""


def draw(config: ResultsConfig) -> list[Path]:
    """Draw both figures; returns their paths."""
    config.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fasta = folder / "ubiquitin.fasta"
        fasta.write_text(f">ubiquitin\n{UBIQUITIN}\n")
        score(ScoreConfig(model=config.model, output=folder / "mutations.csv", fasta=fasta))
        predict(PredictOptions(model=config.model, output=folder / "predictions", fasta=fasta, plot=True))
        drawn = {"mutations": folder / "mutations.png", "prediction": folder / "predictions" / "ubiquitin.png"}
        paths = [config.output / f"ubiquitin_{name}.png" for name in drawn]
        for path, source in zip(paths, drawn.values(), strict=True):
            picture = Image.open(source).convert("RGB")
            picture.thumbnail((WIDTH, WIDTH))
            picture.save(path, optimize=True)
    return paths


if __name__ == "__main__":
    for path in draw(tyro.cli(ResultsConfig)):
        print(path)
