"""A few kills, seeded, and scenarios; kills.py runs as many as wanted."""

from __future__ import annotations

import random

import pytest
from commands import Lab
from kills import kill_round
from scenarios import SCENARIOS

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Small inputs, and what undisturbed commands write."""
    return Lab(tmp_path_factory.mktemp("kills") / "lab")


def test_a_killed_command_finishes_when_run_again(lab):
    """Seed 10: SIGTERM while it makes entries."""
    found = kill_round(lab, "prepare", 10)
    assert found.equal
    assert found.faults == []


def test_a_replaced_input_leaves_no_stale_results(lab, tmp_path):
    scenario = SCENARIOS["replaced:sequences-h5"]
    assert scenario(lab, tmp_path / "scenario", random.Random(0), 0) == []
