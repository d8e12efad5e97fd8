"""Memory limits of control groups of both versions, from made-up trees of their files."""

from __future__ import annotations

import psutil
import pytest

from data_prepare.memory import available_memory

V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
V2 = ("memory.max", "memory.current", "")
NONE = {V1: 2**63 - 4096, V2: "max"}  # no limit


@pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize(
    ("groups", "available"),
    [
        ({"job/step:1": (1000, 700, 40, 60)}, 400),  # the page cache can be freed
        ({"job/step:1": (10_000, 0, 0, 0), "job": (1000, 900, 0, 20), ".": (5000, 100, 0, 0)}, 120),  # the tightest
        ({".": (3000, 1000, 0, 0)}, 2000),  # inside a container, job/step:1 is a path of the host
        ({"job": (1000, 1200, 0, 0)}, 0),
        ({}, 12345678),
        ({"job": (NONE, 1200, 0, 0)}, 12345678),
    ],
)
def test_limits(tmp_path, monkeypatch, version, groups, available):
    """Folder of each group -> limit, usage, active and inactive page cache; without a limit, the machine's memory."""
    limit_file, usage_file, prefix = version
    for group, (limit, usage, active, inactive) in groups.items():
        folder = tmp_path / "fs" / ("memory" if version is V1 else "") / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit_file).write_text(f"{NONE[version] if limit is NONE else limit}\n")
        (folder / usage_file).write_text(f"{usage}\n")
        stat = f"anon 5\nactive_file 1\n{prefix}active_file {active}\n{prefix}inactive_file {inactive}\n"
        (folder / "memory.stat").write_text(stat)
    membership = tmp_path / "cgroup"
    v1 = "9:name=systemd:/\n4:cpu,memory:/job/step:1\n0::/elsewhere\n"
    membership.write_text(v1 if version is V1 else "0::/job/step:1\n")
    free = psutil.virtual_memory()._replace(available=12345678)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert available_memory(membership, tmp_path / "fs") == available
    assert available_memory(tmp_path / "missing", tmp_path / "fs") == 12345678


def test_this_machine():
    assert 0 < available_memory() <= psutil.virtual_memory().total
