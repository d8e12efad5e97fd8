"""Memory available to this process: what is free on the machine, or less if a control group sets a limit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from data_prepare.errors import require

try:
    import resource
except ModuleNotFoundError:  # Windows
    HAS_RESOURCE = False
else:
    HAS_RESOURCE = True

# versions of Linux control groups: mount, files of limit and usage, prefix of the page cache in memory.stat
VERSION_1: Final = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
VERSION_2: Final = ("", "memory.max", "memory.current", "")


WORKERS: Final = "provide more memory or use fewer workers"


def require_memory(needed: int, what: str, available: int | None = None, remedy: str = WORKERS) -> None:
    """InputError if `what`, a plural, needs more than the available bytes, by default `available_memory()`."""
    available = available_memory() if available is None else available
    amounts = f"{needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are available"
    require(needed <= available, f"{what} need {amounts}; {remedy}")


def available_memory(
    membership: Path = Path("/proc/self/cgroup"), control_groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes that this process can allocate without swapping or being killed.

    `membership` lists its control groups, see cgroups(7), which are mounted at `control_groups`; it may be missing.
    """
    return min([psutil.virtual_memory().available, *_allowances(membership, control_groups)])


def _allowances(membership: Path, control_groups: Path) -> Iterator[int]:
    """Bytes left in each control group of the process that has a limit."""
    for line in membership.read_text(encoding="utf-8").splitlines() if membership.exists() else ():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            mounted, limit_file, usage_file, prefix = VERSION_2
        elif "memory" in controllers.split(","):
            mounted, limit_file, usage_file, prefix = VERSION_1
        else:
            continue
        mount = control_groups / mounted
        folder = mount / group.lstrip("/")
        # limits of enclosing groups apply too; inside a container the process's own group may be invisible
        for around in [folder, *folder.parents]:
            if around.is_relative_to(mount) and (around / limit_file).exists():
                limit = (around / limit_file).read_text(encoding="utf-8").strip()
                if limit != "max":
                    usage = int((around / usage_file).read_text(encoding="utf-8"))
                    entries = (around / "memory.stat").read_text(encoding="utf-8").splitlines()
                    stat = dict(entry.split() for entry in entries)
                    # the kernel frees the page cache on demand
                    page_cache = int(stat[f"{prefix}active_file"]) + int(stat[f"{prefix}inactive_file"])
                    yield max(0, int(limit) - usage + page_cache)


def peak_resident_memory() -> int:
    """Most bytes of physical memory that this process has had."""
    if HAS_RESOURCE:
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    found = psutil.Process().memory_info()
    return getattr(found, "peak_wset", found.rss)  # of Windows
