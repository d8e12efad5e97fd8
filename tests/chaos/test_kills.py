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


@pytest.mark.parametrize(("name", "seed"), [("merge", 3), ("predict-h5", 9)])
def test_a_killed_command_finishes_when_run_again(lab, name, seed):
    found = kill_round(lab, name, seed)
    assert found.equal
    assert found.faults == []


@pytest.mark.parametrize("name", ["full-disk:merge", "replaced:sequences"])
def test_scenarios(lab, tmp_path, name):
    assert SCENARIOS[name](lab, tmp_path / "scenario", random.Random(0), 0) == []
