"""The doctor: comes in this machine and a store, goes out a list of checks, each with the command that mends it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from recsys_cl.errors import RecsysError
from recsys_cl.machine import count_cores, find_existing, measure_free_disk

_LEAST_FREE_GIB = 2.0


@dataclass(frozen=True)
class Check:
    """One finding: `status` is good, note (works, but look) or bad; `remedy` is a command or empty."""

    what: str
    status: Literal["good", "note", "bad"]
    found: str
    remedy: str = ""

    def dump(self) -> dict[str, str]:
        """As JSON values."""
        return asdict(self)


def check_machine(store: Path) -> list[Check]:
    """Versions against pins, memory, disk, threads, and the health of the store."""
    return [
        _check_python(),
        *_check_versions(),
        _check_memory(),
        _check_disk(store),
        _check_threads(),
        _check_store(store),
        *_check_due(store),
    ]


def describe_checks(checks: list[Check]) -> str:
    """The checks as text, one a line."""
    signs = {"good": "ok  ", "note": "note", "bad": "BAD "}
    lines = [f"{signs[c.status]}  {c.what:<14} {c.found}{'  →  ' + c.remedy if c.remedy else ''}" for c in checks]
    n_bad = sum(check.status == "bad" for check in checks)
    return "\n".join([*lines, f"{len(checks)} checks, {n_bad} bad"])


def _check_python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "good" if sys.version_info >= (3, 11) else "bad", found)


def _check_versions() -> list[Check]:
    """Each requirement of the package, and of its extras `train` and `flows`, against what is installed."""
    checks = []
    for text in metadata.requires("recsys_cl") or []:
        requirement = Requirement(text)
        extra = next((e for e in ("train", "flows", "") if _applies(requirement, e)), None)
        if extra is None or requirement.name.replace("-", "_") == "recsys_cl":
            continue
        checks.append(_check_requirement(requirement, extra))
    return checks


def _check_requirement(requirement: Requirement, extra: str) -> Check:
    """One requirement, of an extra or (empty) of the package itself, against what is installed."""
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        remedy = f"pip install 'recsys_cl[{extra}]'" if extra else f"pip install '{requirement.name}'"
        return Check(requirement.name, "note" if extra else "bad", "not installed", remedy)
    fits = requirement.specifier.contains(found, prereleases=True)
    pinned = f"{found} (wanted {requirement.specifier})"
    remedy = "" if fits else f"pip install '{requirement.name}{requirement.specifier}'"
    return Check(requirement.name, "good" if fits else "bad", pinned, remedy)


def _applies(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return extra == ""
    return bool(extra) and bool(requirement.marker.evaluate({"extra": extra}))


def _check_memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    free = memory.available / 2**30
    found = f"{free:.1f} of {memory.total / 2**30:.1f} GiB free"
    remedy = "" if free >= _LEAST_FREE_GIB else "lower ingest.bucket_rows and training.batch_users"
    return Check("memory", "note" if remedy else "good", found, remedy)


def _check_disk(store: Path) -> Check:
    place = find_existing(store)
    free = measure_free_disk(store) / 2**30
    remedy = "" if free >= _LEAST_FREE_GIB else "free some space, or choose another --store"
    return Check("disk", "note" if remedy else "good", f"{free:.1f} GiB free at {place}", remedy)


def _check_threads() -> Check:
    n_cores = count_cores()
    limits = [
        f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ
    ]
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        return Check("threads", "note", "OMP_WAIT_POLICY=PASSIVE slows training", "unset OMP_WAIT_POLICY")
    return Check("threads", "good", f"{n_cores} cores{', ' if limits else ''}{', '.join(limits)}")


def _check_due(store: Path) -> list[Check]:
    """A note where users were erased and nothing was trained anew since."""
    from recsys_cl.publishing.receipts import read_due

    times = read_due(store)
    found = (
        f"users were erased {len(times)} times since {times[0]}; releases still hold what was learned" if times else ""
    )
    return [Check("retraining", "note", found, f"recsys-cl run --log LOG --store {store}")] if times else []


def _check_store(store: Path) -> Check:
    from recsys_cl.publishing.store import read_current
    from recsys_cl.serving.lookup import open_release

    try:
        if not store.exists() or (store.is_dir() and not (store / "releases").exists()):
            return Check("store", "note", f"no release in {store} yet", f"recsys-cl run --log LOG --store {store}")
        open_release(store)
        return Check("store", "good", f"release {read_current(store)} in {store} is whole")
    except RecsysError as error:
        return Check("store", "bad", str(error), error.remedy)
    except OSError as error:
        return Check("store", "bad", f"{store} cannot be read ({error.strerror})", "choose another --store")
