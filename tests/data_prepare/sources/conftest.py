"""The example helix for all tests of sources."""

from __future__ import annotations

import pytest
from source_files import Helix


@pytest.fixture(scope="session")
def helix(tmp_path_factory, examples):
    return Helix(tmp_path_factory.mktemp("helix"), examples)
