"""Typed, frozen configuration. Everything is validated when it is built; presets are complete configurations."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from data_prepare.errors import InputError, first_line

MAX_TOKENS: Final = 1024  # longest token row seen in training; model/README.md tells what each command does beyond it


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and behaviour of a SeqDance or ESMDance network. The defaults are SeqDance on the ESM2-35M architecture."""

    hidden: int = 480
    """Width of the residue embeddings."""
    layers: int = 12
    """Transformer layers of the encoder."""
    heads: int = 20
    """Attention heads per layer; hidden / heads must be an even number (rotary positions turn pairs of channels)."""
    feed_forward: int = 1920
    """Width inside the feed-forward sublayers of the encoder."""
    freeze_encoder: bool = False
    """ESMDance: the encoder keeps its weights, runs without gradients and without dropout; only the heads train."""
    encoder_dropout: float = 0.1
    """Dropout on attention probabilities and on both sublayer outputs of the encoder."""
    head_dropout: float = 0.1
    """Dropout in the residue head and in the pair head."""
    pair_tile: int = 256
    """Rows of the pair matrix computed at a time (a CPU takes fewer, as its cache is small); changes no result."""
    pair_recompute_above: int = 512
    """Training: token count above which the backward pass computes the pair head's middle layer again, not keeps it."""

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "feed_forward", "pair_tile"):
            value = getattr(self, name)
            if not _is_int(value) or value < 1:
                raise InputError(f"model configuration: {name} is {value!r}, it must be a whole number of at least 1")
        if not _is_int(self.pair_recompute_above) or self.pair_recompute_above < 0:
            raise InputError(f"model configuration: pair_recompute_above is {self.pair_recompute_above!r}, not a count")
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise InputError(
                f"model configuration: hidden ({self.hidden}) / heads ({self.heads}) must be an even whole number"
            )
        for name in ("encoder_dropout", "head_dropout"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise InputError(f"model configuration: {name} is {value!r}, it must be at least 0 and below 1")
        if not isinstance(self.freeze_encoder, bool):
            raise InputError(
                f"model configuration: freeze_encoder is {self.freeze_encoder!r}, it must be true or false"
            )

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
        return dataclasses.asdict(self)

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
        if "model_select" in values:
            preset, size = values["model_select"], values.get("esm2_select", PUBLISHED_SIZE)
            if preset not in PUBLISHED_MODELS or size != PUBLISHED_SIZE:
                raise InputError(
                    f"model configuration: no preset for model_select {preset!r} with esm2_select {size!r}; "
                    f"known are {' and '.join(PUBLISHED_MODELS)} with {PUBLISHED_SIZE}"
                )
            return cls(**PRESETS[preset].to_dict())
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise InputError(f"model configuration: unknown entries {', '.join(unknown)}; remove them")
        return cls(**values)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


PRESETS: Final[dict[str, ModelConfig]] = {
    "seqdance": ModelConfig(),
    "esmdance": ModelConfig(freeze_encoder=True, encoder_dropout=0.0),
    "demo": ModelConfig(hidden=48, layers=2, heads=4, feed_forward=192),  # hundreds of updates in minutes on a CPU
}

# the config.json of the published models names the encoder's size and the model
PUBLISHED_SIZE: Final = "model_35M"
PUBLISHED_MODELS: Final = ("seqdance", "esmdance")


@dataclass(frozen=True)
class Stage:
    """Length and batch of one part of the training."""

    length: int
    """Tokens of the longest crop."""
    micro_batch: int
    """Proteins of each group in one backward pass of one process."""
    accumulation: int
    """Micro-batches of each group per update."""

    def __post_init__(self) -> None:
        for name in ("length", "micro_batch", "accumulation"):
            if not _is_int(getattr(self, name)) or getattr(self, name) < 1:
                raise InputError(
                    f"training configuration: {name} is {getattr(self, name)!r}, not a number of at least 1"
                )


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained. The defaults are those of SeqDance as published, on 4 GPUs."""

    preset: Literal["seqdance", "esmdance", "demo"] = "seqdance"
    """Where the other fields start from."""
    config: Path | None = None
    """Where they start from instead of a preset: config.json of a former run, or a YAML file of fields."""
    table: Path = Path("data/table.csv")
    """Training table: name, modify_seq, source, label."""
    store: Path = Path("data/features.h5")
    """Feature store of the entries of the table."""
    weights: Path = Path("data/loss_weights.csv")
    """Loss weights: rows properties, columns groups."""
    output: Path = Path("runs/seqdance")
    """Folder of this run: config.json, log.jsonl, tensorboard, checkpoints."""
    encoder: str | None = None
    """Weights to start the encoder from, of ESM2, SeqDance or ESMDance: folder, file or Hub id. Without: random."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes of the network."""

    updates: int = 200_000
    """Optimizer steps of the whole training."""
    short_updates: int = 160_000
    """Updates at the short length; the others run at the long one."""
    short: Stage = Stage(length=256, micro_batch=16, accumulation=2)
    """First part of the training."""
    long: Stage = Stage(length=MAX_TOKENS, micro_batch=2, accumulation=16)
    """Second part."""
    seed: int = 0
    """Decides on initial weights, dropout, order and crops."""

    learning_rate: float = 1e-4
    """Peak of the schedule: linear warm-up, linear decay to a tenth at 90 % of the updates, constant."""
    warmup_updates: int = 2_000
    """Updates of the warm-up."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW: decay of the running means of gradient and squared gradient."""
    eps: float = 1e-8
    """AdamW: added to the root of the squared gradient's mean."""
    weight_decay: float = 0.01
    """AdamW: decoupled weight decay."""
    clip: float = 0.5
    """Gradients are clipped to this absolute value, element by element."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the forward pass. auto: fp32 on a CPU, bf16 on a GPU that has it, else fp16 (published; scaled gradients)."""
    tf32: bool = False
    """Products of fp32 matrices on a GPU in TF32. Those of a bf16 or fp16 forward pass are none."""
    compile: bool = False
    """Compile the network before the first update; needs a C++ compiler. Other rounding than without."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one."""
    sort_by_length: bool = False
    """Batches of proteins of similar length, in random order: less padding. Otherwise random ones, as published."""
    workers: int | None = None
    """Processes that read the store. Default: 0 on a CPU, up to 4 on a GPU."""

    log_every: int = 20
    """Updates between two lines of the log."""
    checkpoint_every: int = 1_000
    """Updates between two checkpoints."""
    keep_last: int = 3
    """Checkpoints that stay whatever their number."""
    keep_every: int = 1_000
    """Older checkpoints stay where their update is a multiple of this."""
    resume: str = "auto"
    """auto: go on from the newest whole checkpoint of the run, if any; none: start anew; or a checkpoint folder."""
    stop_after: int | None = None
    """Save and leave after this update; the schedule stays that of all updates."""
    debug: bool = False
    """Show the traceback of an error."""

    def __post_init__(self) -> None:
        for name in ("updates", "log_every", "checkpoint_every", "keep_last", "keep_every"):
            self._check(_is_int(getattr(self, name)) and getattr(self, name) >= 1, name, "a number of at least 1")
        for name in ("short_updates", "warmup_updates", "seed"):
            self._check(_is_int(getattr(self, name)) and getattr(self, name) >= 0, name, "a number of at least 0")
        for name in ("learning_rate", "eps", "clip"):
            self._check(getattr(self, name) > 0, name, "above 0")
        self._check(self.warmup_updates < 0.9 * self.updates, "warmup_updates", "below 90 % of the updates")
        self._check(self.weight_decay >= 0, "weight_decay", "at least 0")
        self._check(all(0 <= beta < 1 for beta in self.betas), "betas", "at least 0 and below 1")
        self._check(self.workers is None or self.workers >= 0, "workers", "a number of at least 0")
        self._check(self.stop_after is None or self.stop_after >= 1, "stop_after", "a number of at least 1")

    def _check(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise InputError(f"training configuration: {name} is {getattr(self, name)!r}, it must be {expected}")


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
T = TypeVar("T")


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
        The file cannot be read, or holds something that is no field or not of its type.
    """
    import yaml  # type: ignore[import-untyped]

    try:
        text = path.read_text()
        values = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not a JSON or YAML file ({first_line(error)})") from None
    if isinstance(values, dict) and isinstance(values.get("config"), dict):
        values = values["config"]  # beside the versions and devices of the run
    if not isinstance(values, dict):
        raise InputError(f"{path}: no fields of a training configuration; give config.json of a run")
    preset = values.get("preset", "seqdance")
    if preset not in TRAIN_PRESETS:
        raise InputError(f"{path}: unknown preset {preset!r}; known are {', '.join(TRAIN_PRESETS)}")
    return _changed(TRAIN_PRESETS[preset], {k: v for k, v in values.items() if k not in ONE_CALL}, str(path))


def _changed(start: T, values: Mapping[str, Any], where: str) -> T:
    """A dataclass with the values of a file in the place of its own."""
    kinds = get_type_hints(type(start))
    if unknown := [name for name in values if name not in kinds]:
        raise InputError(f"{where}: unknown entries {', '.join(map(str, unknown))}; remove them")
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(kinds[name]) and isinstance(value, dict):
            changes[name] = _changed(getattr(start, name), value, f"{where}: {name}")
            continue
        try:
            changes[name] = _typed(kinds[name], value)
        except (TypeError, ValueError):
            expected = getattr(kinds[name], "__name__", str(kinds[name]))
            raise InputError(f"{where}: {name} is {value!r}, it must be {expected}") from None
    try:
        return dataclasses.replace(start, **changes)  # type: ignore[type-var]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _typed(kind: Any, value: Any) -> Any:
    """A value of a JSON or YAML file as the type of a field; TypeError or ValueError if it is none."""
    match get_origin(kind), value:
        case (origin, _) if origin is UnionType:  # X | None
            return None if value is None else _typed(get_args(kind)[0], value)
        case (origin, _) if origin is Literal and value in get_args(kind):
            return value
        case (origin, [*items]) if origin is tuple:
            return tuple(_typed(item_kind, item) for item_kind, item in zip(get_args(kind), items, strict=True))
    if kind is float and type(value) in (int, str):  # YAML takes 1e-4 for text
        return float(value)
    if kind is Path and type(value) is str:
        return Path(value)
    if type(value) is not kind:
        raise TypeError
    return value
