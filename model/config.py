"""Typed, frozen configuration, validated when it is built. Presets are complete configurations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

import tyro
from pydantic import ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings
from data_prepare.errors import named, reading, require, shown
from data_prepare.files import read_text

STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # strict: "10" and true are not numbers
MOST: Final = 10**9  # of counts that are no sizes: more updates, tokens or proteins than any run has
Number = Annotated[int, Field(ge=0, le=MOST)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # int64 of PyTorch
# ten times the largest published language models of proteins: a damaged file must not ask for terabytes or days
Layers = Annotated[int, Field(ge=1, le=1_000)]
Width = Annotated[int, Field(ge=1, le=2**17)]
Channels = Annotated[int, Field(ge=1, le=2**20)]  # inside the feed-forward sublayers
MAX_PARAMETERS: Final = 2**37  # 550 GB of float32
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]  # of a forward pass, see `network.device.choose_precision`
Betas = Annotated[tuple[Fraction, Fraction], Strict(False)]  # a list in JSON and YAML
File = Annotated[Path, Strict(False)]  # a string in JSON and YAML

MAX_TOKENS: Final = 1024  # most tokens seen in training; docs/how-to/train.md lists how commands treat longer proteins
FORMER: Final = ("pair_tile", "pair_recompute_above")  # in config.json of earlier versions; they changed no results
SIZE_NAMES: Final = {  # fields of ModelConfig that weights determine
    "hidden": "channels",
    "layers": "layers",
    "heads": "attention heads",
    "feed_forward": "feed-forward channels",
}
PUBLISHED_SIZE: Final = "model_35M"  # esm2_select in the config.json of the published models


def encoder_parameters(width: int, layers: int, feed_forward: int) -> int:
    """Parameters of a transformer encoder, without biases and norms."""
    return layers * width * (4 * width + 2 * feed_forward)


@dataclass(frozen=True, config=STRICT)
class ModelConfig(Settings):
    """Sizes and behaviour of a SeqDance or ESMDance network. The defaults are SeqDance on the ESM2-35M architecture."""

    hidden: Width = 480
    """Width of the residue embeddings."""
    layers: Layers = 12
    """Transformer layers of the encoder."""
    heads: Width = 20
    """Attention heads per layer; hidden / heads must be even (rotary positions rotate pairs of channels)."""
    feed_forward: Channels = 1920
    """Width inside the feed-forward sublayers of the encoder."""
    freeze_encoder: bool = False
    """ESMDance: the encoder is not trained and runs without gradients and dropout; only the heads are trained."""
    encoder_dropout: Fraction = 0.1
    """Dropout on attention probabilities and on both sublayer outputs of the encoder."""
    head_dropout: Fraction = 0.1
    """Dropout in the residue head and in the pair head."""

    def __post_init__(self) -> None:
        even = not self.hidden % self.heads and not (self.hidden // self.heads) % 2
        require(even, f"hidden ({self.hidden}) / heads ({self.heads}) must be an even whole number")
        number = encoder_parameters(self.hidden, self.layers, self.feed_forward) + 2 * self.hidden * self.maps
        sizes = f"hidden {self.hidden}, layers {self.layers}, feed_forward {self.feed_forward}, heads {self.heads}"
        require(number <= MAX_PARAMETERS, f"{sizes}: {number:.1e} parameters, at most {MAX_PARAMETERS:.1e}")

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden // self.heads

    @property
    def maps(self) -> int:
        """Attention maps of the whole encoder, and middle channels of the pair head."""
        return self.layers * self.heads

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Configuration from config.json: fields of this class, or the published `esm2_select` and `model_select`.

        Raises InputError for an unknown name or an invalid value.
        """
        if "model_select" not in values:
            return cls(**{name: value for name, value in values.items() if name not in FORMER})
        preset, size = values["model_select"], values.get("esm2_select", PUBLISHED_SIZE)
        known = preset in ("seqdance", "esmdance") and size == PUBLISHED_SIZE
        remedy = f"use seqdance or esmdance with {PUBLISHED_SIZE}"
        require(known, f"no preset for model_select {shown(preset)} with esm2_select {shown(size)}; {remedy}")
        return cls(**asdict(PRESETS[preset]))


PRESETS: Final[dict[str, ModelConfig]] = {
    "seqdance": ModelConfig(),
    "esmdance": ModelConfig(freeze_encoder=True, encoder_dropout=0.0),
    "demo": ModelConfig(hidden=128, layers=4, heads=8, feed_forward=512),  # the network of this package
}


@dataclass(frozen=True, config=STRICT)
class Stage(Settings):
    """Crop length and batch size of one stage of the training."""

    length: Count
    """Longest crop, in tokens."""
    micro_batch: Count
    """Proteins of each group per backward pass and process. Default: on a GPU as many as its memory suits."""
    accumulation: Count
    """Micro-batches of each group per update. Default: so many that an update has the proteins of the published
    training, 128 of each group, on any number of processes."""


@dataclass(frozen=True, config=STRICT)
class TrainingOptions(Settings):
    """Options of SeqDance and Dyna-1 training, with the defaults of SeqDance."""

    preset: str = "seqdance"
    """Source of the defaults of the other options."""
    output: File = Path("runs/seqdance")
    """Folder of this run: config.json, log.jsonl, tensorboard, checkpoints."""
    seed: Seed = 0
    """Seed of initial weights, dropout, sample order and crops."""

    learning_rate: Positive = 1e-4
    """Peak of the schedule: linear warm-up, linear decay to a tenth at 90 % of the updates, then constant."""
    betas: Betas = (0.9, 0.98)
    """AdamW: decay rates of the running means of gradient and squared gradient."""
    eps: Positive = 1e-8
    """AdamW: term added to the denominator."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW: decoupled weight decay."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto uses a GPU if one is available."""

    checkpoint_every: Count = 1_000
    """Updates between checkpoints."""
    keep_last: Count = 3
    """Number of newest checkpoints to keep."""
    resume: str = "auto"
    """auto: the newest intact checkpoint of the run, if any; none: start from scratch; or a checkpoint folder."""
    stop_after: Count | None = None
    """Save and exit after this update; does not change the schedule."""
    profile: Number = 0
    """Updates whose times PyTorch's profiler records in a trace, after a few to warm up: OUTPUT/profile/*.json.gz."""
    allow_changes: Annotated[tuple[str, ...], Strict(False)] = ()
    """Options, by name without --, whose values may differ from those of the checkpoint to resume from."""
    debug: bool = False
    """Show the traceback of an error."""

    # what says where, how fast and how long a training runs; data are compared by content, not by path
    FREE: ClassVar[frozenset[str]] = frozenset(
        "preset output device checkpoint_every keep_last resume stop_after profile allow_changes debug table "
        "precision".split()
    )
    SIZES: ClassVar[frozenset[str]] = frozenset()  # options of `fixed` that no run can change

    def fixed(self) -> dict[str, Any]:
        """Options that the weights depend on, by their names on the command line without --."""
        return {name.replace("_", "-"): value for name, value in _flat(asdict(self)).items() if name not in self.FREE}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        parts = {f"{name}.{part}": inner for part, inner in _flat(value).items()} if isinstance(value, dict) else None
        flat |= {name: value} if parts is None else parts
    return flat


@dataclass(frozen=True, config=STRICT)
class TrainConfig(TrainingOptions):
    """Options of SeqDance and ESMDance training. The defaults are the published ones of SeqDance, on 4 GPUs."""

    preset: Literal["seqdance", "esmdance", "demo"] = "seqdance"
    """Source of the defaults of the other options."""
    config: File | None = None
    """Instead of a preset: config.json of an earlier run, or a YAML file of options."""
    table: File = Path("data/table.csv")
    """Training table: name, modify_seq, source, group, label."""
    store: File = Path("data/features.h5")
    """Feature store with the entries of the table."""
    loss_weights: Annotated[File, tyro.conf.arg(aliases=["--weights"])] = Path("data/loss_weights.csv")
    """Loss weights: one row per property, one column per group."""
    encoder: str | None = None
    """Initial encoder weights from ESM2 of any size, SeqDance or ESMDance: seqdance, esmdance, folder, file or Hub id.
    Default: random."""
    init: str | None = None
    """Fine-tuning: initial weights of the whole network, heads included, from SeqDance or ESMDance (seqdance, esmdance,
    demo, a folder, file or Hub id), instead of --encoder."""
    freeze: Literal["encoder", "none"] | None = None
    """Train only the heads (encoder) or everything (none). Default: model.freeze-encoder of the preset."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes of the network; those that are not chosen are the sizes of --init or --encoder."""
    given: Annotated[tuple[str, ...], Strict(False), tyro.conf.Suppress] = field(default=(), compare=False)
    """Fields of `model`, `short` and `long` named on the command line; those of the stages as short.micro_batch."""

    updates: Count = 200_000
    """Optimizer steps of the whole training."""
    short_updates: Number = 160_000
    """Updates of the short stage; the rest belong to the long stage."""
    short: Stage = Stage(length=256, micro_batch=16, accumulation=2)
    """First stage of the training."""
    long: Stage = Stage(length=MAX_TOKENS, micro_batch=2, accumulation=16)
    """Second stage."""
    warmup_updates: Number = 2_000
    """Updates of the warm-up."""
    exchange: Fraction = 0.0
    """Share of the amino acids replaced by random ones in each sample, against overfitting a small data set."""
    clip: Positive = 0.5
    """Clip each gradient element to this absolute value."""
    precision: Precision = "auto"
    """Precision of the forward pass. auto: fp32 on a CPU, bf16 on a GPU that supports it, else fp16 (published)."""
    tf32: bool = False
    """Use TF32 for fp32 matrix products on a GPU. Does not affect bf16 or fp16 forward passes."""
    kernels: bool = True
    """On an NVIDIA GPU, in half precision and with Triton installed, run attention maps and pair head in own kernels,
    which are several times faster. Dropout draws other random numbers; otherwise results differ by rounding."""
    joint_groups: bool | None = None
    """Pass the proteins of all groups through the network together: fewer and larger operations, more memory.
    Default: on a GPU."""
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Processes that read the store. Default: 0 on a CPU; for a GPU the cores that the process may use, divided
    by the training processes of the node."""
    log_every: Count = 20
    """Updates between log lines."""
    keep_every: Count = 1_000
    """Also keep the weights of checkpoints whose update is a multiple of this; only the newest can be resumed."""

    FREE: ClassVar[frozenset[str]] = TrainingOptions.FREE | frozenset(
        "config store loss_weights encoder init freeze given tf32 kernels joint_groups workers log_every keep_every "
        "short.micro_batch short.accumulation long.micro_batch long.accumulation".split()
    )
    SIZES: ClassVar[frozenset[str]] = frozenset(f"model.{name.replace('_', '-')}" for name in SIZE_NAMES)

    def __post_init__(self) -> None:
        shorter = self.warmup_updates < 0.9 * self.updates
        require(shorter, f"--warmup-updates {self.warmup_updates}: must be below 90 % of --updates {self.updates}")
        both = f"--init {self.init} and --encoder {self.encoder} exclude each other; remove one of them"
        require(self.init is None or self.encoder is None, both)
        if self.freeze is not None:  # kept in `model` alone, so that config.json states it once
            frozen = self.freeze == "encoder"
            agree = self.model.freeze_encoder == frozen or "freeze_encoder" not in self.given
            require(agree, f"--freeze {self.freeze}, but model.freeze-encoder is {not frozen}; remove one of them")
            object.__setattr__(self, "model", replace(self.model, freeze_encoder=frozen))
            object.__setattr__(self, "freeze", None)

    def with_sizes(self, found: Mapping[str, int], source: object) -> Self:
        """The same for a network of the sizes `found` in the weights `source`.

        Raises InputError if the user chose others, see `has_chosen`.
        """
        ours = asdict(self.model)
        chosen = [name for name in found if found[name] != ours[name] and self.has_chosen(name)]
        options = ", ".join(f"--model.{name.replace('_', '-')} {ours[name]}" for name in chosen)
        theirs = ", ".join(f"{found[name]} {SIZE_NAMES[name]}" for name in chosen)
        require(not chosen, f"{options}, but {source} has {theirs}; omit the option or use weights of that size")
        with named(source):
            return replace(self, model=ModelConfig(**asdict(self.model) | dict(found)))

    def has_chosen(self, name: str) -> bool:
        """Whether a size of the network was given on the command line, or is not that of the preset.

        Also a field of a stage, as short.micro_batch.
        """
        part, _, name_in_part = name.rpartition(".")
        ours, of_preset = (getattr(config, part or "model") for config in (self, TRAIN_PRESETS[self.preset]))
        return name in self.given or getattr(ours, name_in_part) != getattr(of_preset, name_in_part)


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
        output=Path("runs/demo_training"),  # `seqdance demo` writes runs/demo
        init="demo",
        model=PRESETS["demo"],
        updates=150,
        short_updates=120,
        short=Stage(length=64, micro_batch=4, accumulation=1),
        long=Stage(length=128, micro_batch=2, accumulation=2),
        learning_rate=3e-4,
        warmup_updates=10,
        weight_decay=0.1,
        checkpoint_every=50,
    ),
}

T = TypeVar("T", bound=Settings)
ONCE: Final = (
    "config",
    "resume",
    "stop_after",
    "profile",
    "allow_changes",
    "debug",
    "given",
)  # belong to a single call


def read_train_config(path: Path) -> TrainConfig:
    """Configuration from config.json of a run, or from a YAML or JSON file of fields; the preset supplies the rest.

    Ignores the fields in `ONCE` of a run. Raises InputError if the file cannot be read or holds an unknown field or an
    invalid value, or a YAML file one of these.
    """
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):
        """Also reads JSON, and 1e-4 as a number, like YAML 1.2."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
    with reading(path, "a JSON or YAML file of training options", "give config.json of a run, or fields and values"):
        values = yaml.load(read_text(path, "a YAML file"), Loader)
        own = isinstance(values.get("config"), dict)  # config.json of a run
        values = values["config"] if own else values
    once = [name for name in ONCE if values.get(name) and values[name] != getattr(TrainConfig, name) and not own]
    options = " ".join(f"--{name.replace('_', '-')}" for name in once)
    require(not once, f"{path}: {', '.join(once)}: no part of a configuration; give {options} on the command line")
    values = {name: value for name, value in values.items() if name not in ONCE}
    if "weights" in values:  # former name
        values["loss_weights"] = values.pop("weights")
    values.pop("sort_by_length", None)  # a former field
    if values.get("init") is not None:
        values = {"encoder": None} | values  # instead of the preset's
    preset = values.get("preset", "seqdance")
    known = isinstance(preset, str) and preset in TRAIN_PRESETS
    require(known, f"{path}: unknown preset {shown(preset)}; use {', '.join(TRAIN_PRESETS)}")
    return _changed(TRAIN_PRESETS[preset], values, str(path))


def _changed(start: T, values: Any, where: str) -> T:
    """`start` with the fields in `values` replaced, also those of nested configurations."""
    fields = isinstance(values, dict) and all(isinstance(name, str) for name in values)
    require(fields, f"{where}: expected fields and values, found {shown(values)}")
    parts = {
        name: _changed(getattr(start, name), value, f"{where}: {name}")
        for name, value in values.items()
        if isinstance(getattr(start, name, None), Settings)
    }
    with named(where):
        return type(start)(**(vars(start) | values | parts))
