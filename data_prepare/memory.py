"""Memory available to this process: what is free on the machine, or less if a control group sets a limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from data_prepare.errors import require


class _ControlGroups(NamedTuple):
    """Files of a version of Linux control groups; `page_cache` are fields of memory.stat."""

    mount: str
    limit: str
    usage: str
    page_cache: tuple[str, ...]


VERSION_1: Final = _ControlGroups(
    "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")
)
VERSION_2: Final = _ControlGroups("", "memory.max", "memory.current", ("active_file", "inactive_file"))


def require_memory(needed: int, what: str, available: int | None = None) -> None:
    """InputError if `what`, a plural, needs more than the available bytes, by default `available_memory()`."""
    available = available_memory() if available is None else available
    amounts = f"{needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are available"
    require(needed <= available, f"{what} need {amounts}; provide more memory or use fewer workers")


def available_memory(
    membership: Path = Path("/proc/self/cgroup"), control_groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes that this process can allocate without swapping or being killed.

    `membership` lists its control groups, see cgroups(7), which are mounted at `control_groups`; it may be missing.
    """
    return min([psutil.virtual_memory().available, *_allowances(membership, control_groups)])


def _allowances(membership: Path, control_groups: Path) -> Iterator[int]:
    """Bytes left in each control group of the process that has a limit."""
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            version = VERSION_2
        elif "memory" in controllers.split(","):
            version = VERSION_1
        else:
            continue
        mount = control_groups / version.mount
        folder = mount / group.lstrip("/")
        # limits of enclosing groups apply too; inside a container the process's own group may be invisible
        for around in [folder, *folder.parents]:
            if around.is_relative_to(mount) and (around / version.limit).exists():
                limit = (around / version.limit).read_text().strip()
                if limit != "max":
                    usage = int((around / version.usage).read_text())
                    stat = dict(entry.split() for entry in (around / "memory.stat").read_text().splitlines())
                    # the kernel frees the page cache on demand
                    yield max(0, int(limit) - usage + sum(int(stat[name]) for name in version.page_cache))
