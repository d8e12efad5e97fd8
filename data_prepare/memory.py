"""Memory that this process may still take: what the machine has free, or less where a control group sets a limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import psutil


class _ControlGroups(NamedTuple):
    """Where a version of Linux control groups keeps its memory accounts, and the page cache among memory.stat."""

    mount: str
    limit: str
    usage: str
    page_cache: tuple[str, ...]


VERSION_1: Final = _ControlGroups(
    "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")
)
VERSION_2: Final = _ControlGroups("", "memory.max", "memory.current", ("active_file", "inactive_file"))


def available_memory(
    membership: Path = Path("/proc/self/cgroup"), control_groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes that this process may still take without swapping or being killed.

    Parameters
    ----------
    membership
        File that lists the control groups of the process (cgroups(7)); none if it does not exist.
    control_groups
        Folder where they are mounted.
    """
    return min([psutil.virtual_memory().available, *_allowances(membership, control_groups)])


def _allowances(membership: Path, control_groups: Path) -> Iterator[int]:
    """Bytes left in each control group that holds the process and has a limit."""
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
        # a group obeys the limits of those around it; inside a container its own folder may be out of sight
        for around in [folder, *folder.parents]:
            if around.is_relative_to(mount) and (around / version.limit).exists():
                limit = (around / version.limit).read_text().strip()
                if limit != "max":
                    usage = int((around / version.usage).read_text())
                    stat = dict(entry.split() for entry in (around / "memory.stat").read_text().splitlines())
                    # the kernel gives the cache of files back before it refuses memory
                    yield max(0, int(limit) - usage + sum(int(stat[name]) for name in version.page_cache))
