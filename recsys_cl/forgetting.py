"""Forgetting: comes in a store and the ids of users, goes out the store without them, and a receipt that names nobody.

First everything is written beside what it replaces: a disk that is full by then leaves all as it was. Then successors
of the releases take their names, `CURRENT` moves, all else is replaced, and the originals are deleted. Whatever kills
the process in between, a whole release is live, and the same command finishes what was begun. In the end every field of
users in every file of the store is decoded again.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from recsys_cl.config import Config
from recsys_cl.errors import InputError, StoreError
from recsys_cl.files import TEMPORARY, Swaps, read_json, remove_leftovers, sync_path, write_json
from recsys_cl.interactions.erasing import erase_part
from recsys_cl.interactions.user_tables import UserTable
from recsys_cl.publishing.audit import write_audit
from recsys_cl.publishing.erasure import find_affected, stage_successor
from recsys_cl.publishing.live import move_current
from recsys_cl.publishing.receipts import (
    FOLDER,
    PENDING,
    Receipt,
    drop_pending,
    find_receipt,
    hash_user,
    make_key,
    mark_due,
    read_key,
    read_pending,
    write_pending,
    write_receipt,
)
from recsys_cl.publishing.release import make_staging
from recsys_cl.publishing.store import RELEASES, find_current, lock_store
from recsys_cl.publishing.upkeep import delete_release
from recsys_cl.run_erasing import stage_run
from recsys_cl.runs import Run, claim_run, tell_now
from recsys_cl.whereabouts import Whereabouts, find_whereabouts, list_export_places, list_folders
from recsys_cl.windows import rename_releases

_PUBLISHED = "release.json"


@dataclass(frozen=True)
class Forgotten:
    """A finished erasure: what its receipt says, and where that lies. live: the release that is live now, if any."""

    receipt: Receipt
    path: Path
    live: str | None

    def dump(self) -> dict[str, object]:
        """As JSON values."""
        return {"receipt": str(self.path), "live": self.live} | self.receipt.dump()


def forget(store: Path, user_ids: Sequence[str], wait_seconds: float = 60.0) -> Forgotten:
    """Erase users from a store; see the module. `receipt.found` names the files in which one was found afterwards.

    Releases are replaced even where a process has them open: it must open the store anew. Raises InputError where the
    store does not name one of the users, StoreError where something cannot be read, a run is being worked on, or the
    disk refuses; before anything was replaced, nothing has changed then, and else the message says how to go on.
    """
    ids = _check_ids(user_ids)
    if not any((store / name).is_dir() for name in (RELEASES, "runs", "raw")):
        raise StoreError(f"{store} is not a store", f"a folder with {RELEASES}/, runs/ or raw/ in it", "check --store")
    try:
        with lock_store(store, wait_seconds), _claim_runs(store):
            _remove_leftovers(store)
            with _prepare(store, ids) as prepared:
                _begin(store, prepared)
                return _finish(store, ids, prepared)
    except OSError as error:
        why, full = error.strerror or str(error), error.errno in (errno.ENOSPC, errno.EDQUOT)
        begun = (store / FOLDER / PENDING).exists()
        found = f"erasing from {store} was interrupted ({why})" if begun else f"nothing was erased from {store} ({why})"
        room = "free some space, then " if full else ""
        remedy = f"{room}run the same command again" + (", which finishes what was begun" if begun else "")
        raise StoreError(found, "a store that can be written, with room for a second copy of it", remedy) from error


@dataclass(frozen=True)
class _Prepared:
    """Everything is written, and nothing is in its place. staged: each release that is affected, its staged successor;
    receipt: what is known of it by now; swaps: the rest."""

    staged: dict[str, Path]
    receipt: Receipt
    swaps: Swaps


@contextlib.contextmanager
def _prepare(store: Path, ids: pl.Series) -> Iterator[_Prepared]:
    begin, places = tell_now(), find_whereabouts(store)  # runs count as ingested later than that
    named = {table: table.find(ids) for table in places.list_tables()}
    hits = {table for table, found in named.items() if len(found)}
    pending = _check_known(store, ids, pl.concat([pl.Series("id", [], dtype=pl.String), *named.values()]))
    with contextlib.ExitStack() as stack:
        staged, renamed, held = _stage_releases(store, ids, stack)
        swaps = stack.enter_context(Swaps())
        sources = [folder for folder, tables in places.sources.items() if hits.intersection(tables)]
        for folder in sources:
            erase_part(folder, places.fields, ids, swaps.replace(folder))
        for folder in places.orphans:  # what an ingest has read that did not come to its end: read again, if need be
            swaps.remove(folder)
        exports = [table for table in places.exports if table in hits]
        for table in exports:
            table.drop(ids, swaps.replace(table.path))
        runs = _stage_runs(places, hits, ids, renamed, swaps)
        windows = rename_releases(store, renamed)
        if windows is not None:
            write_json(swaps.replace(windows[0]), windows[1])
        key = read_key(store) or make_key(store)
        receipt = Receipt(
            time=begin,
            users=sorted(hash_user(key, one) for one in ids),
            releases=renamed,
            runs=runs,
            sources=sorted(places.parts[folder].name for folder in sources),
            exports=sorted(str(table.path.relative_to(store)) for table in exports),
            logs=places.logs,
            outside=places.outside,
            retraining=held,
        )
        yield _Prepared(staged, receipt.join(pending), swaps)


def _check_ids(user_ids: Sequence[str]) -> pl.Series:
    """The ids as texts, each once. Raises InputError for none, and for what no log can hold."""
    ids = list(dict.fromkeys(user_ids))
    for one in ids:
        try:
            valid = bool(one.encode())
        except UnicodeEncodeError:
            valid = False
        if not valid:
            raise InputError(f"{one!r} is no user_id", "a text of valid Unicode, as the log has it")
    if not ids:
        raise InputError("no user is named", "one or more user_ids")
    return pl.Series("id", ids, dtype=pl.String)


def _check_known(store: Path, ids: pl.Series, named: pl.Series) -> Receipt | None:
    """The erasure of these users that was begun before, if any. Raises InputError where one of them is neither named
    in the store nor in that, StoreError where it is of others, too."""
    key, pending = read_key(store), read_pending(store)
    hashes = {} if key is None else {hash_user(key, one): one for one in ids}
    if pending is not None and not hashes.keys() >= set(pending.users):
        found = f"an erasure of {len(pending.users)} users, begun at {pending.time}, is not finished"
        raise StoreError(found, "those users among the named", "first run its command again")
    begun = set() if pending is None else {hashes[one] for one in pending.users}
    unknown = [one for one in ids if one not in begun and one not in set(named)]
    if unknown:
        before = [find_receipt(store, one) for one, user in hashes.items() if user in unknown[:1]]
        remedy = f"it was erased before: {before[0]}" if before and before[0] else "nothing was changed"
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise InputError(f"no user {unknown[0]!r}{more} in {store}", "ids as the log has them", remedy)
    return pending


def _stage_releases(
    store: Path, ids: pl.Series, stack: contextlib.ExitStack
) -> tuple[dict[str, Path], dict[str, str], bool]:
    """The staged successor of each release that is affected, the names of these, and whether one held a user."""
    affected = find_affected(store, ids)
    staged: dict[str, Path] = {}
    renamed: dict[str, str] = {}
    for version in affected:
        staged[version] = stack.enter_context(make_staging(store / RELEASES))
        renamed[version] = stage_successor(store / RELEASES / version, staged[version], ids, renamed)
    return staged, renamed, any(affected.values())


def _stage_runs(
    places: Whereabouts, hits: set[UserTable], ids: pl.Series, renamed: dict[str, str], swaps: Swaps
) -> list[str]:
    """The runs that named a user; others only learn the new name of the release that they published."""
    affected = []
    for folder, tables in places.runs.items():
        if hits.intersection(tables):
            stage_run(folder, tables, ids, swaps)
            affected.append(folder.name)
        elif (folder / _PUBLISHED).is_file():
            published = read_json(folder / _PUBLISHED)
            if published["release"] in renamed:
                write_json(swaps.replace(folder / _PUBLISHED), published | {"release": renamed[published["release"]]})
    return affected


def _begin(store: Path, prepared: _Prepared) -> None:
    """Give the successors their names, and make that of the live release live; or leave all as it was. Raises OSError,
    StoreError."""
    releases, renamed, moved = store / RELEASES, prepared.receipt.releases, []
    live = find_current(store)
    to = renamed.get(live or "")
    earlier = read_pending(store)
    try:
        write_pending(store, prepared.receipt)
        for version, staging in prepared.staged.items():
            if not (releases / renamed[version]).exists():  # else a process that was killed had come as far
                staging.rename(releases / renamed[version])
                moved.append((staging, releases / renamed[version]))
        sync_path(releases)
        if to is not None:
            move_current(releases, to)
    except BaseException:
        if to is None or find_current(store) != to:
            for staging, folder in moved:
                folder.rename(staging)
            if earlier is None:
                drop_pending(store)
        raise
    if to is not None:
        with contextlib.suppress(OSError):  # it is live, whether or not there is room for a line that says so
            write_audit(store, "erasure", live, to)


def _finish(store: Path, ids: pl.Series, prepared: _Prepared) -> Forgotten:
    """Replace the rest, delete the originals, and look whether a user is still named. Raises OSError, StoreError."""
    prepared.swaps.apply()
    for version in reversed(
        prepared.staged
    ):  # children first: a parent tells what its children's successors are called
        delete_release(store / RELEASES / version)
        with contextlib.suppress(OSError):
            write_audit(store, "erasure", version, None)
    if prepared.receipt.retraining:
        mark_due(store, prepared.receipt.time)
    tables = list(find_whereabouts(store).list_tables())
    found = sorted(str(table.path.relative_to(store)) for table in tables if len(table.find(ids)))
    receipt = replace(prepared.receipt, found=found, n_checked=len(tables))
    return Forgotten(receipt, write_receipt(store, receipt), find_current(store))


@contextlib.contextmanager
def _claim_runs(store: Path) -> Iterator[None]:
    """Keep other processes from working on runs. Raises StoreError where one does."""
    with contextlib.ExitStack() as stack:
        for folder in _list_runs(store):
            stack.enter_context(claim_run(Run(folder.parent.parent, folder.name, Config())))
        yield


def _list_runs(store: Path) -> list[Path]:
    """The folders of all runs, those of a rebuild that is going on, too."""
    places = [store, *store.glob(f"{TEMPORARY}*")]
    return [folder for place in places for folder in list_folders(place / "runs")]


def _remove_leftovers(store: Path) -> None:
    """Delete what killed processes left half-written: nobody is at work here now."""
    exports = [place if place.is_dir() else place.parent for place in list_export_places(store)]
    for folder in [store, store / "raw", store / FOLDER, *exports, *_list_runs(store)]:
        remove_leftovers(folder)
