"""A few damaged files of each kind, read in processes with little memory; fuzz.py runs as many as wanted."""

from __future__ import annotations

import pytest
from fuzz import GOOD, fuzz
from readers import READERS


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_end_in_one_line(name, tmp_path):
    ends = fuzz(name, tmp_path, range(3))
    assert [end for end in ends if end[1] not in GOOD] == []
