"""Typed, frozen configuration. Everything is validated when it is built; presets are complete configurations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import tyro
from pydantic import ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings
from data_prepare.errors import named, reading, require

STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # a text or true is no number
Number = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[Fraction, Fraction], Strict(False)]  # a file has a list
File = Annotated[Path, Strict(False)]  # and a text

MAX_TOKENS: Final = 1024  # longest token row seen in training; model/README.md tells what each command does beyond it


@dataclass(frozen=True, config=STRICT)
class ModelConfig(Settings):
    """Sizes and behaviour of a SeqDance or ESMDance network. The defaults are SeqDance on the ESM2-35M architecture."""

    hidden: Count = 480
    """Width of the residue embeddings."""
    layers: Count = 12
    """Transformer layers of the encoder."""
    heads: Count = 20
    """Attention heads per layer; hidden / heads must be an even number (rotary positions turn pairs of channels)."""
    feed_forward: Count = 1920
    """Width inside the feed-forward sublayers of the encoder."""
    freeze_encoder: bool = False
    """ESMDance: the encoder keeps its weights, runs without gradients and without dropout; only the heads train."""
    encoder_dropout: Fraction = 0.1
    """Dropout on attention probabilities and on both sublayer outputs of the encoder."""
    head_dropout: Fraction = 0.1
    """Dropout in the residue head and in the pair head."""
    pair_tile: Count = 256
    """Rows of the pair matrix computed at a time (a CPU takes fewer, as its cache is small); changes no result."""
    pair_recompute_above: Number = 512
    """Training: token count above which the backward pass computes the pair head's middle layer again, not keeps it."""

    def __post_init__(self) -> None:
        even = not self.hidden % self.heads and not (self.hidden // self.heads) % 2
        require(even, f"hidden ({self.hidden}) / heads ({self.heads}) must be an even whole number")

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden // self.heads

    @property
    def maps(self) -> int:
        """Attention maps of the whole encoder; the pair head has as many middle channels."""
        return self.layers * self.heads

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary, as it is written to config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Configuration from the content of a config.json.

        Parameters
        ----------
        values
            Field names and values of this class, or the published form with `esm2_select` and `model_select`.

        Raises
        ------
        InputError
            A name is unknown or a value cannot be used.
        """
        if "model_select" not in values:
            return cls(**values)
        preset, size = values["model_select"], values.get("esm2_select", PUBLISHED_SIZE)
        require(
            preset in PUBLISHED_MODELS and size == PUBLISHED_SIZE,
            f"no preset for model_select {preset!r} with esm2_select {size!r}; known are "
            f"{' and '.join(PUBLISHED_MODELS)} with {PUBLISHED_SIZE}",
        )
        return cls(**PRESETS[preset].to_dict())


PRESETS: Final[dict[str, ModelConfig]] = {
    "seqdance": ModelConfig(),
    "esmdance": ModelConfig(freeze_encoder=True, encoder_dropout=0.0),
    "demo": ModelConfig(hidden=48, layers=2, heads=4, feed_forward=192),  # hundreds of updates in minutes on a CPU
}

# the config.json of the published models names the encoder's size and the model
PUBLISHED_SIZE: Final = "model_35M"
PUBLISHED_MODELS: Final = ("seqdance", "esmdance")


@dataclass(frozen=True, config=STRICT)
class Stage(Settings):
    """Length and batch of one part of the training."""

    length: Count
    """Tokens of the longest crop."""
    micro_batch: Count
    """Proteins of each group in one backward pass of one process."""
    accumulation: Count
    """Micro-batches of each group per update."""


@dataclass(frozen=True, config=STRICT)
class TrainingOptions(Settings):
    """Options of all trainings; their defaults are those of SeqDance."""

    preset: str = "seqdance"
    """Where the other fields start from."""
    output: File = Path("runs/seqdance")
    """Folder of this run: config.json, log.jsonl, tensorboard, checkpoints."""
    seed: Number = 0
    """Determines initial weights, dropout, order and crops."""

    learning_rate: Positive = 1e-4
    """Peak of the schedule: linear warm-up, linear decay to a tenth at 90 % of the updates, constant."""
    betas: Betas = (0.9, 0.98)
    """AdamW: decay of the running means of gradient and squared gradient."""
    eps: Positive = 1e-8
    """AdamW: added to the root of the squared gradient's mean."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW: decoupled weight decay."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto uses a GPU if there is one."""

    checkpoint_every: Count = 1_000
    """Updates between two checkpoints."""
    keep_last: Count = 3
    """Number of newest checkpoints to keep."""
    resume: str = "auto"
    """auto: from the newest intact checkpoint of the run, if any; none: start anew; or a checkpoint folder."""
    stop_after: Count | None = None
    """Save and exit after this update; the schedule stays that of all updates."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True, config=STRICT)
class TrainConfig(TrainingOptions):
    """How a network is trained. The defaults are those of SeqDance as published, on 4 GPUs."""

    preset: Literal["seqdance", "esmdance", "demo"] = "seqdance"
    """Where the other fields start from."""
    config: File | None = None
    """Instead of a preset: config.json of a former run, or a YAML file of fields."""
    table: File = Path("data/table.csv")
    """Training table: name, modify_seq, source, label."""
    store: File = Path("data/features.h5")
    """Feature store of the entries of the table."""
    loss_weights: Annotated[File, tyro.conf.arg(aliases=["--weights"])] = Path("data/loss_weights.csv")
    """Loss weights: rows properties, columns groups."""
    encoder: str | None = None
    """Initial weights of the encoder, of ESM2, SeqDance or ESMDance: folder, file or Hub id. Default: random."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes of the network."""

    updates: Count = 200_000
    """Optimizer steps of the whole training."""
    short_updates: Number = 160_000
    """Updates at the short length; the others run at the long one."""
    short: Stage = Stage(length=256, micro_batch=16, accumulation=2)
    """First part of the training."""
    long: Stage = Stage(length=MAX_TOKENS, micro_batch=2, accumulation=16)
    """Second part."""
    warmup_updates: Number = 2_000
    """Updates of the warm-up."""
    clip: Positive = 0.5
    """Gradients are clipped to this absolute value, element by element."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the forward pass. auto: fp32 on a CPU, bf16 on a GPU that has it, else fp16 (published; scaled gradients)."""
    tf32: bool = False
    """Use TF32 for products of fp32 matrices on a GPU. Does not affect bf16 or fp16 forward passes."""
    compile: bool = False
    """Compile the network before the first update; requires a C++ compiler. Rounding differs."""
    sort_by_length: bool = False
    """Batches of proteins of similar length, in random order: less padding. Default: random batches, as published."""
    workers: Number | None = None
    """Processes that read the store. Default: 0 on a CPU, up to 4 on a GPU."""
    log_every: Count = 20
    """Updates between two lines of the log."""
    keep_every: Count = 1_000
    """Keep older checkpoints whose update is a multiple of this."""

    def __post_init__(self) -> None:
        shorter = self.warmup_updates < 0.9 * self.updates
        require(shorter, f"--warmup-updates {self.warmup_updates}: must be below 90 % of --updates {self.updates}")


TRAIN_PRESETS: Final[dict[str, TrainConfig]] = {
    "seqdance": TrainConfig(),
    "esmdance": TrainConfig(
        preset="esmdance",
        output=Path("runs/esmdance"),
        encoder="facebook/esm2_t12_35M_UR50D",
        model=PRESETS["esmdance"],
        updates=60_000,
        short_updates=40_000,
    ),
    "demo": TrainConfig(
        preset="demo",
        output=Path("runs/demo"),
        model=PRESETS["demo"],
        updates=800,
        short_updates=640,
        short=Stage(length=64, micro_batch=4, accumulation=1),
        long=Stage(length=128, micro_batch=2, accumulation=2),
        learning_rate=3e-3,
        warmup_updates=20,
        weight_decay=0.1,
        checkpoint_every=100,
    ),
}

ONE_CALL: Final = ("config", "resume", "stop_after", "debug")  # fields that a former run says nothing about
OLD_NAMES: Final = {"weights": "loss_weights"}  # of fields, in config.json of former runs
T = TypeVar("T", bound=Settings)


def read_train_config(path: Path) -> TrainConfig:
    """Configuration of a former run.

    Parameters
    ----------
    path
        config.json of a run, or a YAML or JSON file of fields; those that are not in it are the preset's. `resume`,
        `stop_after` and `debug` are not taken over.

    Raises
    ------
    InputError
        The file cannot be read, or has an unknown field or a value of another type.
    """
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):
        """Reads JSON too, and 1e-4 as a number, as YAML 1.2 does."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
    with reading(path, "a JSON or YAML file of training options", "give config.json of a run, or fields and values"):
        values = yaml.load(path.read_text(), Loader)
        values = values["config"] if isinstance(values.get("config"), dict) else values  # beside versions and devices
    values = {OLD_NAMES.get(name, name): value for name, value in values.items() if name not in ONE_CALL}
    preset = values.get("preset", "seqdance")
    require(preset in TRAIN_PRESETS, f"{path}: unknown preset {preset!r}; known are {', '.join(TRAIN_PRESETS)}")
    return _changed(TRAIN_PRESETS[preset], values, str(path))


def _changed(start: T, values: Any, where: str) -> T:
    """Configuration with some fields, and fields of fields, replaced by those of a file."""
    require(isinstance(values, dict), f"{where}: {values!r} instead of fields and their values")
    parts = {
        name: _changed(getattr(start, name), value, f"{where}: {name}")
        for name, value in values.items()
        if isinstance(getattr(start, name, None), Settings)
    }
    with named(where):
        return type(start)(**(vars(start) | values | parts))
