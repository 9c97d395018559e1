"""The doctor: comes in this machine and a store, goes out a list of checks, each with the command that mends it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from recsys_cl.config import Config, hide_password, is_url
from recsys_cl.errors import LogError, RecsysError
from recsys_cl.machine import count_cores, find_existing, measure_free_disk

_LEAST_FREE_GIB = 2.0
_ANSWER_SECONDS = 3.0
_EXTRAS = ("train", "flows", "serve", "")
_MOST_NAMED = 5
_ANALYTICS = "PREFECT_SERVER_ANALYTICS_ENABLED"
# What pip finds no fault with, though it does not work: seen with Prefect 3.8.
_BAD_PAIRS = (
    ("prefect", "fastapi", ">=0.151", "deployments cannot be listed or made, and no flow runs with newer ones"),
    ("prefect", "sqlalchemy", ">=2.1", "its server never plans a run of a schedule"),
)


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


def check_machine(store: Path, config: Config | None = None) -> list[Check]:
    """Versions against requirements, the tested ones and bad pairs of them, memory, disk, threads, telemetry, the
    Prefect server, the health of the store; and whether the database of a configuration answers."""
    return [
        _check_python(),
        *_check_versions(),
        *_check_constraints(Path(__file__).parents[1] / "constraints.txt"),
        _check_memory(config),
        _check_disk(store),
        _check_threads(),
        *_check_pairs(metadata.version),
        _check_telemetry(),
        _check_server(),
        *([] if config is None else _check_database(config)),
        _check_store(store),
        *_check_unfinished(store),
        *_check_due(store),
    ]


def describe_checks(checks: list[Check]) -> str:
    """The checks as text, one a line."""
    signs = {"good": "ok  ", "note": "note", "bad": "BAD "}
    width = max(14, *(len(check.what) for check in checks))
    lines = [f"{signs[c.status]}  {c.what:<{width}} {c.found}{'  →  ' + c.remedy if c.remedy else ''}" for c in checks]
    n_bad = sum(check.status == "bad" for check in checks)
    return "\n".join([*lines, f"{len(checks)} checks, {n_bad} bad"])


def _check_python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata.metadata("recsys_cl")["Requires-Python"]
    fits = SpecifierSet(wanted).contains(found)
    remedy = "" if fits else "python3.11 -m venv .venv && .venv/bin/pip install 'recsys_cl[flows]'"
    return Check("python", "good" if fits else "bad", f"{found} (wanted {wanted})", remedy)


def _check_versions() -> list[Check]:
    """Each requirement of the package, and of its extras `train`, `flows` and `serve`, against what is installed."""
    checks = []
    for text in metadata.requires("recsys_cl") or []:
        requirement = Requirement(text)
        extra = next((e for e in _EXTRAS if _applies(requirement, e)), None)
        if extra is None or requirement.name.replace("-", "_") == "recsys_cl":
            continue
        checks.append(_check_requirement(requirement, extra))
    return list(dict.fromkeys(checks))  # two extras may want the same


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


def _check_constraints(path: Path) -> list[Check]:
    """What is installed against the versions that are tested together; none where this is no clone, which has them."""
    if not path.is_file():
        return []
    others = []
    for pin in map(Requirement, path.read_text(encoding="utf-8").split()):
        with contextlib.suppress(metadata.PackageNotFoundError):  # not every extra is installed
            found = metadata.version(pin.name)
            if not pin.specifier.contains(found, prereleases=True):  # a build for a CPU is the same version
                others.append(f"{pin.name} {found} (tested {pin.specifier})")
    if not others:
        return [Check(path.name, "good", "the versions that are tested")]
    more = [f"and {len(others) - _MOST_NAMED} more"] if len(others) > _MOST_NAMED else []
    remedy = f"pip install -c {path} -e '{path.parent}[flows]'"
    return [Check(path.name, "note", ", ".join([*others[:_MOST_NAMED], *more]), remedy)]


def _check_memory(config: Config | None = None) -> Check:
    import psutil

    memory = psutil.virtual_memory()
    free = memory.available / 2**30
    found = f"{free:.1f} of {memory.total / 2**30:.1f} GiB free"
    if free >= _LEAST_FREE_GIB:
        return Check("memory", "good", found)
    given = config or Config()
    rows, users = max(1, given.ingest.bucket_rows // 4), max(1, given.training.batch_users // 4)
    remedy = f"recsys-cl run --set ingest.bucket_rows={rows} training.batch_users={users}"
    return Check("memory", "note", found, remedy)


def _check_disk(store: Path) -> Check:
    place = find_existing(store)
    free = measure_free_disk(store) / 2**30
    found = f"{free:.1f} GiB free at {place}"
    if free >= _LEAST_FREE_GIB:
        return Check("disk", "good", found)
    if (store / "releases").is_dir():
        remedy = f"recsys-cl prune --store {store} --keep 1 && recsys-cl compact --store {store} --keep 1"
    else:
        remedy = "recsys-cl doctor --store DIR, with a DIR on another disk"
    return Check("disk", "note", found, remedy)


def _check_threads() -> Check:
    n_cores = count_cores()
    limits = [
        f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ
    ]
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        return Check("threads", "note", "OMP_WAIT_POLICY=PASSIVE slows training", "unset OMP_WAIT_POLICY")
    return Check("threads", "good", f"{n_cores} cores{', ' if limits else ''}{', '.join(limits)}")


def _check_pairs(find_version: Callable[[str], str]) -> list[Check]:
    """Packages that work by themselves and not together; none where one of them is missing."""
    checks = []
    for one, other, bad, reason in _BAD_PAIRS:
        try:
            found = find_version(one), find_version(other)
        except metadata.PackageNotFoundError:
            continue
        text = f"{one} {found[0]} with {other} {found[1]}"
        if SpecifierSet(bad).contains(found[1], prereleases=True):
            remedy = f"pip install '{other}{bad.replace('>=', '<')}'"
            checks.append(Check(f"{one}+{other}", "bad", f"{text}: {reason}", remedy))
        else:
            checks.append(Check(f"{one}+{other}", "good", text))
    return checks


def _check_telemetry() -> Check:
    """Whether Prefect sends usage figures. Its server asks one setting, and whatever else is Prefect's another one; the
    flows turn both off for themselves, but not for a server and a worker that are started by hand."""
    server, place = _is_analyzed()
    client = os.environ.get("DO_NOT_TRACK", "").lower() not in ("1", "true", "yes")
    found = f"{place}: {'on' if server else 'off'}; of workers and flows: {'on' if client else 'off'}"
    exports = ["DO_NOT_TRACK=1"] * client + [f"{_ANALYTICS}=false"] * server
    if not exports:
        return Check("telemetry", "good", found)
    return Check("telemetry", "note", found, f"export {' '.join(exports)}, then start server and worker again")


def _is_analyzed() -> tuple[bool, str]:
    """Whether a Prefect server sends usage figures, and which: the one that is named, or one that is started here."""
    url = _read_prefect("PREFECT_API_URL")
    if url:
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/admin/settings", timeout=_ANSWER_SECONDS) as answer:
                return bool(json.load(answer)["server"]["analytics_enabled"]), "of the server that is named"
        except (OSError, ValueError, HTTPException, KeyError, TypeError):  # that it does not answer is told elsewhere
            pass
    given = _read_prefect(_ANALYTICS).lower()
    return given not in ("0", "off", "f", "false", "n", "no"), "of a server that is started here"


def _read_prefect(name: str) -> str:
    """A setting of Prefect, from the environment or the active profile; empty where neither has it."""
    if name in os.environ:
        return os.environ[name]
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    try:
        path = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
        known = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
        return str(known["profiles"][os.environ.get("PREFECT_PROFILE", known.get("active"))].get(name, ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _check_server() -> Check:
    """Whether the Prefect server that the environment names answers."""
    url = _read_prefect("PREFECT_API_URL")
    if not url:
        return Check("Prefect server", "good", "none is named; flows start one of their own")
    shown = hide_password(url)
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=_ANSWER_SECONDS):
            return Check("Prefect server", "good", f"{shown} answers")
    except (OSError, ValueError, HTTPException):
        remedy = "prefect server start, or unset PREFECT_API_URL"
        return Check("Prefect server", "bad", f"{shown} does not answer", remedy)


def _check_database(config: Config) -> list[Check]:
    """Whether the database that holds the log answers; none where the log is files."""
    from recsys_cl.database import connect

    if not is_url(config.ingest.log):
        return []
    try:
        with connect(config.ingest.log, LogError) as database:
            return [Check("database", "good", f"{database.shown} answers")]
    except RecsysError as error:
        return [Check("database", "bad", error.found, error.remedy)]


def _check_unfinished(store: Path) -> list[Check]:
    """A note where a process left a run, and nobody works on it."""
    from recsys_cl.runs import claim_run, open_run

    try:
        run = open_run(store)
        with claim_run(run):
            found = f"run {run.run_id} was left after {', '.join(run.read_stages()) or 'no stage'}"
            return [Check("runs", "note", found, run.resume_command)]
    except (RecsysError, OSError):  # none, or one that is worked on, or a store that may not be written to
        return []


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
