"""The machine: how many cores, how much memory and disk there is to use."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_free_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes of memory that are free, within what a container may take."""
    import psutil

    free: int = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(0, limit - used))
    return free


def find_existing(path: Path) -> Path:
    """The path itself, or the nearest of the folders above it that is there."""
    places = [path.absolute(), *path.absolute().parents]
    return next(place for place in places if os.access(place, os.F_OK))  # false too where one may not look


def measure_free_disk(path: Path) -> int:
    """Bytes that are free on the disk where a path is, or would be."""
    return shutil.disk_usage(find_existing(path)).free
