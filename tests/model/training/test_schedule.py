from __future__ import annotations

import pytest

from data_prepare.properties import GROUPS
from model.config import TRAIN_PRESETS, Stage, TrainConfig
from model.training.schedule import Draw, draws, learning_rate, stage_of

PUBLISHED = {"peak": 1e-4, "warmup": 2_000, "updates": 200_000}


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (1, 5e-8),  # the first update already uses the value at step 1
        (1_000, 5e-5),
        (2_000, 1e-4),
        (91_000, 0.55e-4),  # half of the way from 2,000 to 180,000
        (180_000, 1e-5),
        (190_000, 1e-5),
        (200_000, 1e-5),
    ],
)
def test_learning_rate_at_published_points(update: int, expected: float) -> None:
    assert learning_rate(update, **PUBLISHED) == pytest.approx(expected, rel=1e-12)


def test_learning_rate_without_warmup_starts_at_the_peak() -> None:
    assert learning_rate(1, 1.0, 0, 100) == pytest.approx(1 - 0.9 / 90)


def test_presets_hold_the_published_numbers() -> None:
    sequence, esm = TRAIN_PRESETS["seqdance"], TRAIN_PRESETS["esmdance"]
    assert (sequence.updates, sequence.short_updates) == (200_000, 160_000)
    assert (esm.updates, esm.short_updates) == (60_000, 40_000)
    assert esm.model.freeze_encoder
    for config in (sequence, esm):
        assert stage_of(config.short_updates, config) == Stage(256, 16, 2)
        assert stage_of(config.short_updates + 1, config) == Stage(1024, 2, 16)
        assert config.betas == (0.9, 0.98)
        assert (config.learning_rate, config.warmup_updates, config.eps) == (1e-4, 2_000, 1e-8)
        assert (config.weight_decay, config.clip) == (0.01, 0.5)
        assert (config.log_every, config.checkpoint_every) == (20, 1_000)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_samples_of_all_processes_are_one_stream(processes: int) -> None:
    """Together the processes use the numbers 0, 1, 2, ... of each group once, those of an update by falling length."""

    def tokens(draw: Draw) -> int:
        return (7 * draw.counter + len(draw.group)) % draw.length

    config = TrainConfig(
        updates=4,
        short_updates=2,
        warmup_updates=0,
        short=Stage(8, 6 // processes, 2),
        long=Stage(16, 6 // processes, 3),
    )
    ranks = [list(draws(config, 0, 0, 4, rank, processes, tokens=tokens)) for rank in range(processes)]
    assert {len(part) for part in ranks} == {(2 * 2 + 2 * 3) * 3}
    stream: dict[str, list[Draw]] = {group: [] for group in GROUPS}
    for number, parts in enumerate(zip(*ranks, strict=True)):
        in_turn = [draw for draws_of_ranks in zip(*parts, strict=True) for draw in draws_of_ranks]
        assert {draw.group for draw in in_turn} == {GROUPS[number % 3]}
        stream[in_turn[0].group] += in_turn
    for group in GROUPS:
        assert [draw.length for draw in stream[group]] == [8] * 24 + [16] * 36
        for first, size in ((0, 12), (12, 12), (24, 18), (42, 18)):
            update = stream[group][first : first + size]
            assert sorted(draw.counter for draw in update) == list(range(first, first + size))
            lengths = [tokens(draw) for draw in update]
            assert lengths == sorted(lengths, reverse=True)


def test_draws_resume_where_they_stopped() -> None:
    config = TrainConfig(updates=4, short_updates=2, warmup_updates=0, short=Stage(8, 2, 2), long=Stage(16, 1, 3))
    whole = list(draws(config, 0, 0, 4))
    assert list(draws(config, 0, 0, 3)) + list(draws(config, 3, 2 * 4 + 3, 4)) == whole
