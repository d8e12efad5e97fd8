"""Updates of a training on a GPU: time, tokens per second, share of the card's peak, memory, and where the time goes;
and how far half precision changes outputs and gradients.

    python benchmarks/gpu.py [--device cuda] [--forms kernels eager plain] > gpu.md

The updates are those of `model.train_ddp` for one of `--processes` cards (without the exchange of gradients), on
made-up proteins: batches held in memory, and read from a store by the default number of readers. Plain: the network of
`tests/oracles/plain_dance.py`. FLOPs and the peak are those of the training log. Prints Markdown.
"""

from __future__ import annotations

import itertools
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from measure import plain_form
from torch.profiler import ProfilerActivity, profile

from data_prepare.dataset.store import FeatureStore
from data_prepare.dataset.store_writer import StoreWriter
from data_prepare.properties import GROUPS, NMA_GROUPS, PAIR_CHANNELS, properties_of_group
from model.config import TRAIN_PRESETS, ModelConfig, Precision, TrainConfig
from model.network.dance import DanceModel
from model.network.device import autocast
from model.network.tokenizer import tokenize
from model.training.dance_trainer import DanceTrainer
from model.training.data import TrainingSet, batches, default_workers
from model.training.processes import Process
from model.training.run_log import peak_memory
from model.training.schedule import draws
from model.training.start import divided
from model.training.throughput import peak_flops, training_flops

sys.path.insert(0, str(Path(__file__).parent))
from store import made_up

Form = Literal["kernels", "eager", "plain"]


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    device: Literal["cuda", "cpu"] = "cuda"
    """cpu is for trying the script."""
    preset: Literal["seqdance", "esmdance", "demo"] = "seqdance"
    """Training; weights are random."""
    forms: tuple[Form, ...] = ("kernels", "eager", "plain")
    """Forms of the network."""
    processes: int = 4
    """Cards that share an update."""
    updates: int = 5
    """Updates that count; their mean is printed."""
    warm_up: int = 3
    """Updates before them."""
    entries: int = 12
    """Proteins of each group, from the shorter to the longer size."""
    residues: tuple[int, int] = (100, 1000)
    """Their sizes."""


def training_set(arguments: Arguments, path: Path) -> TrainingSet:
    """Made-up proteins in a store."""
    rng = np.random.default_rng(0)
    sequences: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    with StoreWriter(path) as writer:
        for number, residues in enumerate(np.linspace(*arguments.residues, arguments.entries).astype(int)):
            md, nma = made_up(int(residues), rng).values()
            letters = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), residues))
            for group in GROUPS:
                writer.add(f"{group}{number}", *(nma if group in NMA_GROUPS else md))
                sequences[group].append((f"{group}{number}", letters))
    return TrainingSet(FeatureStore(path), sequences, seed=0)


def trainer_of(form: Form, config: TrainConfig, data: TrainingSet) -> DanceTrainer:
    """A new training; its plain network calls the oracle with the weights of ours."""
    weights = {group: dict.fromkeys(properties_of_group(group), 1.0) for group in GROUPS}
    config = replace(config, kernels=form == "kernels", joint_groups=False if form == "plain" else None)
    trainer = DanceTrainer(config, Process(torch.device(config.device)), data, weights, new=False)
    if form == "plain":
        plain_dance, sizes, parameters = plain_form().plain_dance, config.model, dict(trainer.model.named_parameters())
        dropout = {"encoder_dropout": sizes.encoder_dropout, "head_dropout": sizes.head_dropout}
        trainer.network = lambda ids, mask: plain_dance(  # type: ignore[assignment]
            parameters, sizes.heads, ids, mask, frozen=sizes.freeze_encoder, **dropout
        )
    return trainer


def synchronize(device: torch.device) -> None:
    """Wait for the card."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def row(name: str, form: Form, held: bool, trainer: DanceTrainer, arguments: Arguments) -> tuple[str, float]:
    """One row of the table, and the seconds of an update."""
    config, device, start = trainer.course, trainer.process.device, config_start(trainer, name)
    updates, workers = arguments.updates, default_workers(device)
    if not held:  # three times what the readers have ready, so that they must keep up
        updates = max(updates, -(-6 * workers // (len(GROUPS) * getattr(config, name).accumulation)))
    number = arguments.warm_up + updates
    order = attrgetter("length") if form == "plain" else trainer.data.tokens  # published: random
    samples = draws(config, start, 0, start + (1 if held else number), tokens=order)
    ahead = len(GROUPS) * max(config.short.accumulation, config.long.accumulation)
    trainer.update = start + 1
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with closing(batches(trainer.data, samples, 0 if held else workers, device.type == "cuda", ahead)) as stream:
        trainer.stream = itertools.cycle(list(stream)) if held else stream  # type: ignore[assignment]
        for update in range(number):
            if update == arguments.warm_up:
                synchronize(device)
                trainer.losses.tokens = trainer.losses.pairs = 0
                trainer.waited, begin = 0.0, time.perf_counter()
            trainer.accumulate_gradients()  # as in `Trainer.fit`
            trainer.step()
        synchronize(device)
        took = time.perf_counter() - begin
    flops = training_flops(config.model, trainer.losses.tokens, trainer.losses.pairs) / took
    peak = peak_flops([card(device)])
    stage, share = trainer.stage, f"{flops / peak:.1%}" if peak else "peak unknown"
    each = 1e3 / updates
    return (
        f"| {name} | {stage.length} x {stage.micro_batch} x {stage.accumulation} | {form} | "
        f"{'memory' if held else 'store'} | {each * took:.1f} | {each * trainer.waited:.1f} | "
        f"{trainer.losses.tokens / took:.0f} | {flops / 1e12:.2f} | {share} | {peak_memory(device):.2f} |",
        took / updates,
    )


def config_start(trainer: DanceTrainer, name: str) -> int:
    """Updates before the stage."""
    return 0 if name == "short" else trainer.config.short_updates


def card(device: torch.device) -> str:
    """Name of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def where(trainer: DanceTrainer) -> str:
    """The operations of an update that take most time; of batches held in memory."""
    device = trainer.process.device.type
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")) as profiler:
        trainer.accumulate_gradients()
        trainer.step()
        synchronize(trainer.process.device)
    return profiler.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=15, max_name_column_width=60)


def rounding(config: ModelConfig, device: torch.device) -> Iterator[str]:
    """Differences of outputs and gradients in half precision from float32, of proteins of several lengths."""
    torch.manual_seed(0)
    config = replace(config, encoder_dropout=0.0, head_dropout=0.0)
    model, rng = DanceModel(config).to(device), np.random.default_rng(0)
    batch = tokenize(["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), size)) for size in (40, 90, 190)])
    ids, mask = (part.to(device) for part in batch.values())
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def values(precision: Precision, kernels: bool) -> list[list[torch.Tensor]]:
        model.kernels = kernels
        with autocast(device, precision):
            outputs = model(ids, mask)
        row = mask.bool()
        pair = row[:, :, None] & row[:, None]
        inside = {name: value[pair if name in PAIR_CHANNELS else row] for name, value in outputs.items()}
        loss = torch.stack([value.square().mean() for value in inside.values()]).sum()
        return [[value.detach() for value in inside.values()], list(torch.autograd.grad(loss, learned))]

    exact = values("fp32", kernels=False)
    precisions: tuple[Precision, ...] = ("bf16", "fp16")
    for precision, kernels in itertools.product(precisions, (True, False) if device.type == "cuda" else (False,)):
        found = []
        for ours, others in zip(values(precision, kernels), exact, strict=True):
            errors = [float((a - b).norm() / b.norm()) for a, b in zip(ours, others, strict=True) if b.norm() > 0]
            found.append(f"median {np.median(errors):.1e}, largest {max(errors):.1e}")
        how = "with" if kernels else "without"
        yield f"- {precision} {how} the kernels, against float32: outputs {found[0]}; gradients {found[1]}"


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(Arguments, description=__doc__)
    config = replace(TRAIN_PRESETS[arguments.preset], device=arguments.device, encoder=None)
    with tempfile.TemporaryDirectory() as folder:
        config = replace(config, store=Path(folder, "features.h5"))
        data = training_set(arguments, config.store)
        whole = trainer_of(arguments.forms[0], config, data)
        print(f"{card(whole.process.device)}, PyTorch {torch.__version__}, {arguments.preset}, {whole.precision}\n")
        head = "stage, tokens x proteins x passes, form, batches from, ms per update, ms waiting for data, tokens/s, "
        head += "model TFLOP/s, share of the peak, peak GiB"
        print(f"| {head.replace(', ', ' | ')} |\n|{'---|' * 10}")
        profiles, hours = [], {}
        for form in arguments.forms:
            # the share of a card, divided as its memory suits, then fixed, as if it were chosen; plain as published
            given = ("short.accumulation", "long.accumulation")
            most = trainer_of(form, config, data).most_proteins
            own = config if form == "plain" else divided(config, arguments.processes, most)
            trainer = trainer_of(form, replace(config, short=own.short, long=own.long, given=given), data)
            seconds: list[float] = []
            for name in ("short", "long"):
                for held in (True,) if form == "plain" else (False, True):
                    try:
                        text, took = row(name, form, held, trainer, arguments)
                    except torch.OutOfMemoryError:
                        text, took = f"| {name} | | {form} | | out of memory | | | | | |", float("nan")
                    print(text, flush=True)
                    seconds += [took] if not held or form == "plain" else []
                    if arguments.device == "cuda":
                        torch.cuda.empty_cache()
                if form == arguments.forms[0]:
                    profiles.append(f"Where the time goes, {name}:\n\n```\n{where(trainer)}\n```\n")
            of_stages = (config.short_updates, config.updates - config.short_updates)
            hours[form] = sum(n * took for n, took in zip(of_stages, seconds, strict=True)) / 3600
    print()
    for form, number in hours.items():
        print(f"- {form}: {number:.1f} hours for the {config.updates} updates on {arguments.processes} such cards")
    print()
    for line in rounding(config.model, whole.process.device):
        print(line, flush=True)
    print("\n" + "\n".join(profiles))


if __name__ == "__main__":
    main()
