"""The store of releases: which there are, which is live, and who may change that.

`releases/CURRENT` is a regular text file with the folder name of the live release and nothing else. Reading never
creates or repairs anything. Everything that changes a store holds its lock; what a killed process left under a
temporary name is therefore nobody's, and goes when the lock is next taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from recsys_cl.errors import BusyError, StoreError
from recsys_cl.files import remove_leftovers
from recsys_cl.publishing.manifest import is_version

RELEASES = "releases"
CURRENT = "CURRENT"
_LOCK = ".lock"  # beside `releases`, so that a first publish that fails leaves nothing there
_FLOW = ".flow"  # held by a flow from its first look at the store to its last write
_MOST_CURRENT_BYTES = 256
_POLL_SECONDS = 0.05
_FLOW_POLL_SECONDS, _TELL_SECONDS = 1.0, 600.0


def read_current(store: Path) -> str:
    """The folder name of the live release. Raises StoreError where there is no store, no release, or no such name."""
    version = find_current(store)
    if version is None:
        raise StoreError(
            f"the store {store} has no release yet",
            remedy=f"publish one with: recsys-cl run --log FILE --store {store}",
        )
    return version


def find_current(store: Path) -> str | None:
    """As `read_current`, but None for a store without a live release."""
    releases = find_releases(store)
    path = releases / CURRENT
    remedy = f"put the name of one of the folders in {releases} into it"
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise StoreError(f"{path} is not a regular file", "a text file with the name of a release", remedy)
        with path.open("rb") as file:
            data = file.read(_MOST_CURRENT_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror})") from None
    name = data.decode("ascii", "replace").removesuffix("\n")
    if not is_version(name):
        raise StoreError(f"{path} holds {name[:80]!r}", "the name of a release", remedy)
    if not _is_folder(releases / name):
        if path.is_file() and path.read_bytes() != data:  # it has moved on, and what it named has been pruned since
            return find_current(store)
        raise StoreError(f"{path} names {name}, which is not in {releases}", "a release that exists", remedy)
    return name


def find_live(store: Path) -> str | None:
    """As `find_current`, and None, too, for a store in which nobody has published yet."""
    return find_current(store) if (store / RELEASES).is_dir() else None


def find_releases(store: Path) -> Path:
    """The folder of the releases of a store. Raises StoreError where `store` is none; makes nothing."""
    make = f"make a store with: recsys-cl run --log FILE --store {store}"
    if not store.exists():
        raise StoreError(f"there is no store at {store}", remedy=make)
    releases = store / RELEASES
    if _is_folder(releases):
        return releases
    if _is_folder(store / "runs") or (store / _LOCK).is_file():
        remedy = f"publish one with: recsys-cl run --log FILE --store {store}"
        raise StoreError(f"the store {store} has no release yet", remedy=remedy)
    raise StoreError(f"{store} is not a store", f"a folder with {RELEASES}/ in it", make)


def list_versions(store: Path) -> list[str]:
    """The names of all release folders, in the order of their names, which begin with the time. Raises StoreError."""
    return sorted(path.name for path in find_releases(store).iterdir() if is_version(path.name) and _is_folder(path))


def find_release(store: Path, version: str) -> Path:
    """The folder of a release, by its name. Raises StoreError where the store has none of that name."""
    known = list_versions(store)
    if version not in known:
        raise StoreError(f"there is no release {version!r} in {store}", "one that it has", name_some(known))
    return store / RELEASES / version


def name_some(versions: list[str]) -> str:
    """The newest of them, for a remedy."""
    return f"there are: {', '.join(versions[-5:]) or 'none'}"


@contextlib.contextmanager
def lock_store(store: Path, wait_seconds: float = 60.0) -> Iterator[Path]:
    """Hold the store alone, making it if need be, rid of what killed processes left; gives the folder of releases.

    The lock belongs to the process and ends with it, whatever ends it. Raises BusyError where another process holds
    it for longer than `wait_seconds`; OSError where the folder cannot be written.
    """
    releases = store / RELEASES
    store.mkdir(parents=True, exist_ok=True)
    handle = _open_lock(store / _LOCK)
    try:
        end = time.monotonic() + wait_seconds
        while (holder := _take_lock(handle, "")) is not None:
            if time.monotonic() > end:
                raise BusyError(
                    f"process {holder} is publishing into the store {store}, for over {wait_seconds:g} s",
                    remedy="wait for it, then publish again",
                )
            time.sleep(_POLL_SECONDS)
        if releases.is_symlink():
            raise StoreError(f"{releases} is a link", "a folder of the store itself", "link the whole store instead")
        releases.mkdir(exist_ok=True)
        remove_leftovers(releases)
        yield releases
    finally:
        os.close(handle)


@contextlib.contextmanager
def hold_store(store: Path, flow: str, wait_seconds: float, tell: Callable[[str], None]) -> Iterator[None]:
    """Keep other flows from writing to a store while this one does; the store is made if need be.

    The lock belongs to the process and ends with it, whatever ends it; publishing has one of its own, `lock_store`.
    flow: a name, for those who wait; tell: for people, whom this one waits for. Raises BusyError where another process
    holds the store for longer than `wait_seconds`; OSError where the folder cannot be written.
    """
    store.mkdir(parents=True, exist_ok=True)
    handle = _open_lock(store / _FLOW)
    try:
        began, told = time.monotonic(), -_TELL_SECONDS
        while (holder := _take_lock(handle, f" ({flow})")) is not None:
            waited = time.monotonic() - began
            if waited >= wait_seconds:
                raise BusyError(
                    f"process {holder} works on the store {store}, for over {wait_seconds:g} s",
                    remedy="wait for it, then run this flow again",
                )
            if waited - told >= _TELL_SECONDS:
                tell(f"waiting for process {holder}, which works on the store {store}: {wait_seconds:g} s at most")
                told = waited
            time.sleep(min(_FLOW_POLL_SECONDS, wait_seconds - waited))
        yield
    finally:
        os.close(handle)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


def _take_lock(handle: int, note: str) -> str | None:
    """Take a lock and leave the number of this process and a note in its file; gives None, or what its holder left."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(handle, 64, 0).decode("ascii", "replace")
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}{note}".encode(), 0)
    return None


def _is_folder(path: Path) -> bool:
    """Whether this is a folder itself, not a link to one: a link could lead out of the store."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
