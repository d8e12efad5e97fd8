"""Memory limits of control groups, both versions, from made-up trees of their files."""

from __future__ import annotations

import psutil
import pytest

from data_prepare.memory import available_memory


def write_group(folder, names, limit, usage, cache):
    """Account of one control group; `cache` is (active, inactive)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    prefix = names[2]
    (folder / "memory.stat").write_text(
        f"anon 5\nactive_file 1\n{prefix}active_file {cache[0]}\n{prefix}inactive_file {cache[1]}\n"
    )


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
V2 = ("memory.max", "memory.current", "")


@pytest.fixture(params=["v1", "v2"])
def groups(request, tmp_path):
    """Membership file, mount of the control groups, folder of the memory controller and its file names."""
    membership = tmp_path / "cgroup"
    if request.param == "v1":
        membership.write_text("9:name=systemd:/\n4:cpu,memory:/job/step:1\n0::/elsewhere\n")
        return membership, tmp_path / "fs", tmp_path / "fs" / "memory", V1
    membership.write_text("0::/job/step:1\n")
    return membership, tmp_path / "fs", tmp_path / "fs", V2


def test_own_limit_less_usage_plus_cache(groups):
    membership, mount, folder, names = groups
    write_group(folder / "job" / "step:1", names, 1000, 700, (40, 60))
    assert available_memory(membership, mount) == 400


def test_tightest_group_around_counts(groups):
    membership, mount, folder, names = groups
    write_group(folder / "job" / "step:1", names, 10_000, 0, (0, 0))
    write_group(folder / "job", names, 1000, 900, (0, 20))
    write_group(folder, names, 5000, 100, (0, 0))
    assert available_memory(membership, mount) == 120


def test_inside_a_container_the_mount_is_the_group(groups):
    membership, mount, folder, names = groups
    write_group(folder, names, 3000, 1000, (0, 0))  # job/step:1 is a path of the host
    assert available_memory(membership, mount) == 2000


def test_used_up_is_nothing_left(groups):
    membership, mount, folder, names = groups
    write_group(folder / "job", names, 1000, 1200, (0, 0))
    assert available_memory(membership, mount) == 0


def test_no_limit_is_what_the_machine_has(groups, tmp_path, monkeypatch):
    free = psutil.virtual_memory()._replace(available=12345678)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    membership, mount, folder, names = groups
    assert available_memory(membership, mount) == 12345678  # no account of memory
    write_group(folder / "job", names, "max" if names is V2 else 2**63 - 4096, 1200, (0, 0))
    assert available_memory(membership, mount) == 12345678
    assert available_memory(tmp_path / "absent", mount) == 12345678  # no control groups


def test_this_machine():
    assert 0 < available_memory() <= psutil.virtual_memory().total
