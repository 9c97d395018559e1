"""Kills and full disks: comes in what changes a store, goes out what was found after each system call of it.

strace stops the process on entering one system call, the n-th of its kind since the work began, and kills it there, or
answers ENOSPC in place of the kernel. Between two system calls nothing on the disk changes; so with every call of every
kind that can change a file, every state that a killed process can leave is looked at.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.releases.forks import Ending, Forks
from benchmarks.releases.server import DONE, REFUSED
from recsys_cl.errors import RecsysError, StoreError
from recsys_cl.files import TEMPORARY, hash_file
from recsys_cl.publishing.parts import read_parts
from recsys_cl.publishing.seal import read_manifest
from recsys_cl.publishing.store import find_current, list_versions, read_current
from recsys_cl.publishing.upkeep import verify_store

WRITING = (
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "splice"),
    *("fsync", "fdatasync", "sync_file_range", "ftruncate", "truncate", "fallocate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "mkdir", "mkdirat"),
)
"""System calls that can find a disk full; `openat` too, where it makes a file."""
CHANGING = (
    *WRITING,
    *("openat", "open", "creat", "close", "unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "fchmodat2"),
    *("utimensat", "flock", "fcntl", "msync", "setxattr", "fsetxattr", "chown", "fchown", "fchownat"),
)
"""All that can change a file, a name or a lock."""
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)")


@dataclass(frozen=True)
class Scene:
    """One thing that changes a store. template: what the store is before, a folder, or None where there is none; do,
    arguments: the job; may_be_live: what may be live afterwards, None for nothing and `new` for what was published."""

    name: str
    template: Path | None
    do: str
    arguments: dict[str, Any]
    may_be_live: frozenset[str | None]


@dataclass
class Tally:
    """points: tried; wrong: what was not as promised, in words; by_call: points of each system call."""

    points: int = 0
    wrong: list[str] = field(default_factory=list)
    by_call: Counter[str] = field(default_factory=Counter)

    def add(self, call: str, wrong: list[str]) -> None:
        """One point more."""
        self.points += 1
        self.by_call[call] += 1
        self.wrong += wrong

    def join(self, other: Tally) -> None:
        """Those of another one."""
        self.points += other.points
        self.by_call += other.by_call
        self.wrong += other.wrong


def make_scenes(forks: Forks, work: Path) -> list[Scene]:
    """The first publish, a later one, going back, and pruning; `work` is an empty folder."""
    store = work / "template"
    for seed in (1, 2, 3):
        _must(forks.run("publish", store=store, given=work / "given", seed=seed))
    live = read_current(store)
    before = read_manifest(store / "releases" / live).parent
    publish = {"given": work / "given", "seed": 4}
    return [
        Scene("first publish", None, "publish", publish, frozenset({None, "new"})),
        Scene("later publish", store, "publish", publish, frozenset({live, "new"})),
        Scene("rollback", store, "rollback", {}, frozenset({live, before})),
        Scene("prune", store, "prune", {"keep": 1}, frozenset({live})),
    ]


def count_calls(forks: Forks, scene: Scene, work: Path) -> list[tuple[str, int, str]]:
    """Each system call that changes files, in order: its name, its number among those of its name, what it was given.

    Raises RuntimeError where strace cannot be attached.
    """
    log, store = work / "calls.log", _set_up(scene, work)
    ending = forks.run(
        scene.do, store=store, trace=["-o", log, "-e", f"trace=?{',?'.join(CHANGING)}"], **scene.arguments
    )
    if ending.code != DONE:
        raise RuntimeError(ending.said)
    found, counts, first = [], Counter[str](), None
    for line in log.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None or first not in (None, match[1]):
            continue  # the end of a call, or another thread: those only read
        first = match[1]
        counts[match[2]] += 1
        found.append((match[2], counts[match[2]], match[3]))
    return found


def try_kills(forks: Forks, scene: Scene, points: list[tuple[str, int]], work: Path) -> Tally:
    """Kill the process on entering each of these system calls, and look at what it leaves and how the next goes on."""
    tally = Tally()
    for call, n in points:
        store, point = _set_up(scene, work), f"{scene.name}, killed at {call} {n}"
        ending = forks.run(scene.do, store=store, trace=_inject(call, n, "signal=KILL"), **scene.arguments)
        wrong = [] if ending.code == -signal.SIGKILL else [f"{point}: not killed ({ending.said})"]
        wrong += [f"{point}: {what}" for what in (*find_wrong(scene, store), *_go_on(forks, scene, store))]
        tally.add(call, wrong)
    return tally


def try_full_disk(forks: Forks, scene: Scene, calls: list[tuple[str, int, str]], work: Path) -> Tally:
    """Answer each system call that could find the disk full with ENOSPC, alone and with all later ones of its kind."""
    tally = Tally()
    for call, n, given in calls:
        if not (call in WRITING or (call == "openat" and "O_CREAT" in given)):
            continue
        for when in (f"{n}", f"{n}+") if call in WRITING else (f"{n}",):
            store, point = _set_up(scene, work), f"{scene.name}, ENOSPC at {call} {when}"
            before = describe_live(store)
            ending = forks.run(scene.do, store=store, trace=_inject(call, when, "error=ENOSPC"), **scene.arguments)
            wrong = [*_judge_error(scene, store, ending, before), *_go_on(forks, scene, store)]
            tally.add(call, [f"{point}: {what}" for what in wrong])
    return tally


def find_wrong(scene: Scene, store: Path) -> Iterator[str]:
    """What is not as promised in a store after whatever happened in `scene`, in words."""
    try:
        live = find_current(store) if (store / "releases").is_dir() else None
        known = set() if scene.template is None else set(list_versions(scene.template))
        if live not in scene.may_be_live and not ("new" in scene.may_be_live and live not in known | {None}):
            yield f"live is {live}"
        if not (store / "releases").is_dir():
            return
        for version, damages in verify_store(store).items():
            yield from (f"{version}/{damage.part}: {damage.found}" for damage in damages)
            read_parts(store / "releases" / version, read_manifest(store / "releases" / version))
    except RecsysError as error:
        yield f"unreadable: {error}"


def describe_live(store: Path) -> dict[str, str]:
    """The checksum of each file of the live release, and of the pointer; nothing where nothing is live."""
    try:
        folder = store / "releases" / read_current(store)
    except StoreError:
        return {}
    paths = [*folder.iterdir(), store / "releases" / "CURRENT"]
    return {str(path.relative_to(store)): hash_file(path) for path in paths}


def _judge_error(scene: Scene, store: Path, ending: Ending, before: dict[str, str]) -> Iterator[str]:
    """Either it is done, or there is one message, what was live is untouched, and nothing is left."""
    yield from find_wrong(scene, store)
    if ending.code == REFUSED:
        if describe_live(store) != before:
            yield f"the live release has changed, though it says {ending.said!r}"
        if list((store / "releases").glob(f"{TEMPORARY}*")):
            yield "something is left"
    elif ending.code != DONE:
        yield f"ended with {ending.code}: {ending.said}"


def _go_on(forks: Forks, scene: Scene, store: Path) -> Iterator[str]:
    """The next publish comes through at once, is live, and leaves the store clean."""
    given = scene.arguments.get("given", store.parent / "given")
    ending = forks.run("publish", store=store, given=given, seed=5, wait_seconds=0.0)
    if ending.code != DONE:
        yield f"the next publish: {ending.said}"
        return
    if read_current(store) != ending.said:
        yield "the next publish is not live"
    yield from (f"after the next publish {name} is left" for name in _find_left(store))
    yield from (f"after the next publish {name} is broken" for name, found in verify_store(store).items() if found)


def _find_left(store: Path) -> list[str]:
    versions = {*list_versions(store), "CURRENT"}
    return [path.name for path in (store / "releases").iterdir() if path.name not in versions]


def _set_up(scene: Scene, work: Path) -> Path:
    store = work / "store"
    shutil.rmtree(store, ignore_errors=True)
    if scene.template is not None:
        shutil.copytree(scene.template, store)
    return store


def _inject(call: str, when: int | str, what: str) -> list[str]:
    return ["-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{what}:when={when}"]


def _must(ending: Ending) -> None:
    if ending.code != DONE:
        raise RuntimeError(ending.said)
