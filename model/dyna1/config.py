"""Configuration of the Dyna-1 classifier and of its training. Presets are complete configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings
from data_prepare.errors import require
from data_prepare.nmr.choices import VALIDATION_FRACTION
from model.config import (
    MAX_PARAMETERS,
    STRICT,
    Betas,
    Channels,
    Count,
    File,
    Fraction,
    Layers,
    Positive,
    TrainingOptions,
    Width,
    encoder_parameters,
)
from model.training.command_line import parse_training

ONE_HOT_WIDTH: Final = 24  # token ids of the one-hot baseline
Preset = Literal["esm3", "esm2", "esmc", "onehot", "seqdance", "af2"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dyna1Config(Settings):
    """Sizes and behaviour of a classifier."""

    width: Width
    """Width of the residue embeddings; with pair channels, of the embeddings that the front gathers from pairs."""
    layers: Layers = 12
    """Transformer layers."""
    heads: Width
    """Attention heads per layer; no tensor shows their number."""
    feed_forward: Channels = 2048
    """Width inside the feed-forward sublayers."""
    dropout: Fraction = 0.1
    """Dropout in the transformer layers while training."""
    pair_channels: Width | None = None
    """Channels of the pair representation, for a classifier of pairs (L, L, channels), not embeddings (L, width)."""
    published_padding: bool = False
    """Attend to padding as the published baselines do: on letters up to 367 residues, on pairs to 400 partners."""
    embedder: str | None = None
    """Fingerprint of the embedder that the classifier was trained on; None if unknown."""

    def __post_init__(self) -> None:
        for name, parts in (("heads", self.heads), ("pair channels", self.pair_channels or 1)):
            require(self.width % parts == 0, f"width {self.width} is not a multiple of {parts} {name}")
        number = encoder_parameters(self.width, self.layers, self.feed_forward)
        require(number <= MAX_PARAMETERS, f"width, layers, feed_forward: {number:.1e} parameters; lower them")
        fits = self.pair_channels or self.width == ONE_HOT_WIDTH or not self.published_padding
        require(fits, "published padding is for classifiers on letters (onehot) or AlphaFold2 pairs (af2) only")


# the published classifiers, and one on embeddings of SeqDance or ESMDance
PRESETS: Final[Mapping[str, Dyna1Config]] = {
    "esm3": Dyna1Config(width=1536, heads=6),
    "esm2": Dyna1Config(width=640, heads=8),
    "esmc": Dyna1Config(width=960, heads=8),
    "onehot": Dyna1Config(width=24, layers=10, heads=6),
    "seqdance": Dyna1Config(width=480, heads=8),
    "af2": Dyna1Config(width=32 * 128, heads=8, pair_channels=128),
}


@dataclass(frozen=True, config=STRICT)
class Dyna1TrainConfig(TrainingOptions):
    """How a classifier is trained. The defaults are those of the one-hot baseline as published."""

    preset: Preset = "onehot"
    """The other options default to the values of this preset."""
    table: File = Path("data/dyna1_labels.csv")
    """Labels to train on: entry_ID, sequence, label, source, cluster."""
    validation: File | None = None
    """Labels of the validation proteins. Default: some clusters of --table."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = VALIDATION_FRACTION
    """Without --validation: fraction of the proteins to hold out, as whole clusters."""
    embedder: str = "onehot"
    """Frozen model: onehot, esm2[:PATH][:LAYER], dance:PATH, esm3[:LAYER], esmc[:NAME][:LAYER], af2:FOLDER or
    cache:FILE.h5."""
    cache: File | None = None
    """File for the embeddings of a language model, computed once. Default: embeddings.h5 in --output."""
    output: File = Path("runs/dyna1_onehot")
    """Folder of this run: config.json, log.jsonl, tensorboard, checkpoints, best."""
    model: Dyna1Config = field(default_factory=lambda: PRESETS["onehot"])
    """Sizes of the classifier."""

    epochs: Count = 500
    """Passes over the sequence clusters; each cluster contributes one random member."""
    batch: Count = 16
    """Proteins per update, over all processes."""
    accumulation: Count = 1
    """Parts of similar length into which a process splits an update: less memory and padding, the same gradient."""
    crop: Count = 367
    """Longer proteins are cut to a random window of this length."""
    learning_rate: Positive = 1e-6
    """Constant."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Train on the targets 1 - s/2 and s/2 instead of 1 and 0. The validation loss keeps 1 and 0."""
    betas: Betas = (0.9, 0.999)
    """AdamW: decay of the running means of gradient and squared gradient."""
    patience: Count | None = None
    """Stop after this many epochs without a better validation AUROC. Default: only after the last epoch."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the forward pass. bf16 is faster on a GPU; weights, optimizer and loss stay fp32."""
    checkpoint_every: Count = 500
    """Updates between two checkpoints."""
    keep_last: Count = 2
    """Number of newest checkpoints to keep."""

    FREE: ClassVar[frozenset[str]] = TrainingOptions.FREE | frozenset(
        "validation embedder cache epochs accumulation patience".split()
    )
    SIZES: ClassVar[frozenset[str]] = frozenset(
        f"model.{name}" for name in ("width", "layers", "heads", "feed-forward", "pair-channels")
    )


def _preset(preset: Preset, embedder: str, **changes: Any) -> Dyna1TrainConfig:
    output = Path(f"runs/dyna1_{preset}")
    return Dyna1TrainConfig(preset=preset, embedder=embedder, output=output, model=PRESETS[preset], **changes)


TRAIN_PRESETS: Final[dict[str, Dyna1TrainConfig]] = {
    "onehot": Dyna1TrainConfig(),
    "esm3": _preset("esm3", "esm3"),
    "esm2": _preset("esm2", "esm2"),
    "esmc": _preset("esmc", "esmc"),
    "seqdance": _preset("seqdance", "dance:ChaoHou/SeqDance"),
    "af2": _preset("af2", "af2:data/af2_pairs", crop=400, learning_rate=1e-5, accumulation=4),
}


def parse_dyna1_config(args: Sequence[str] | None = None) -> Dyna1TrainConfig:
    """Configuration from a command line: a preset with the fields that the line changes."""
    return parse_training(TRAIN_PRESETS, args)
