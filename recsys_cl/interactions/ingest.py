"""Ingest: comes in as a log in any form, goes out as validated interactions on disk, attributes and a report.

The log is parsed into the store's raw cache, source by source; the rules are then applied to everything kept so far.
Memory: the distinct ids, one batch of rows and one bucket of users; never all events.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from recsys_cl.catalog import ID
from recsys_cl.config import ImagesConfig, IngestConfig
from recsys_cl.errors import LogError
from recsys_cl.files import LEFTOVER_HOURS, TEMPORARY, dump_json, hash_text, remove_leftovers, write_json
from recsys_cl.interactions.assemble import Assembled, Assembly, assemble_interactions
from recsys_cl.interactions.attributes import USER_ID, Attributes, count_attributes, read_items, read_users
from recsys_cl.interactions.opening import bound_times, list_some, open_source
from recsys_cl.interactions.profile import ARRIVED, WHOLE, Former, Profile, profile_interactions, profile_parts
from recsys_cl.interactions.raw import Part, merge_parts, read_ledger, write_ledger
from recsys_cl.interactions.refusals import open_refusals
from recsys_cl.interactions.report import FileReport, IngestReport
from recsys_cl.interactions.rules import check_roles, check_row_rules
from recsys_cl.interactions.schema import ROLES
from recsys_cl.interactions.sources import is_within
from recsys_cl.interactions.table import Interactions
from recsys_cl.interactions.times import format_times
from recsys_cl.progress import Progress, report_nothing

REFUSED_FILE, INTERACTIONS_FOLDER, OPENED = "refused.parquet", "interactions", "opened.json"


@dataclass(frozen=True)
class Ingested:
    """interactions, mapped from the run's folder; item_attributes: item_id, title and image_path where known, others;
    user_attributes: user_id and others; None without a file. All attributes are strings or null.
    build_profiles: profiles of the `whole` log and, where a part of it was known to the store before, of what has
    `arrived` since; given the users and items of the run before."""

    interactions: Interactions
    item_attributes: pl.DataFrame | None
    user_attributes: pl.DataFrame | None
    report: IngestReport
    build_profiles: Callable[[Former | None], dict[str, Profile]]


Accept = Callable[[Ingested], list[str]]
"""Judges what was ingested, before the store takes it up as read; gives notes for the report."""


def accept_all(ingested: Ingested) -> list[str]:
    """Take up whatever was ingested."""
    del ingested
    return []


def ingest_log(
    config: IngestConfig,
    images: ImagesConfig,
    raw: Path,
    work: Path,
    progress: Progress = report_nothing,
    frame: pl.DataFrame | None = None,
    *,
    check_enough: bool = True,
    accept: Accept = accept_all,
) -> Ingested:
    """Read the log, apply the rules, and write `work/interactions` and `work/refused.parquet`; of files, too,
    which ones and how they were, `work/opened.json`.

    raw: the store's cache of parsed sources. frame: a log in memory, instead of `config.log`. Nothing is written before
    the log could be opened. check_enough: refuse a log with one user or item only, or without a user of two events; a
    log that serves as a test may be such. Raises ConfigError and LogError, and what `accept` raises: the store has then
    not read these sources; refused.parquet stays where rows were read.
    """
    config = bound_times(config)
    rules = check_row_rules(config)
    with open_source(config, frame, progress) as source:
        for columns in source.columns:
            check_roles(rules, columns, "the log")
        items = read_items(config, images, [source.columns[0]["item"]])
        users = read_users(config, [source.columns[0]["user"]])
        former = read_ledger(raw) if config.incremental else []
        later = [part for part in former if not is_within(part.name, config.window)]
        former = [part for part in former if is_within(part.name, config.window)]
        current, fresh = source.parse(raw)
    parts = merge_parts(former, current, raw)
    _check_alike(parts)
    with _make_scratch(work) as scratch, open_refusals(work / REFUSED_FILE) as refusals:
        assembly = Assembly(parts, raw, scratch, config, rules, refusals, progress)
        found = assemble_interactions(assembly, work / INTERACTIONS_FOLDER)
    if source.files:
        write_json(work / OPENED, source.files)
    refused = dict(sorted(refusals.counts.items()))
    assembled = _check_left(found, parts, refused, work)
    if check_enough:
        _check_enough(assembled.interactions, work)
    notes = source.notes + _note_origin(former, current, fresh) + _note_rules(config, assembly.timed)
    notes += _note_outside(items)
    report = _report(assembled, (parts, fresh), refused, notes, (items, users))
    frames = items.frame if items else None, users.frame if users else None
    known = {part.key for part in former}
    arrived = [part for part in parts if part.key not in known]

    def build_profiles(former_ids: Former | None) -> dict[str, Profile]:
        found = {WHOLE: profile_interactions(assembled.interactions, assembled.kinds, refused, former_ids)}
        if 0 < len(arrived) < len(parts):
            found[ARRIVED] = profile_parts(arrived, raw, rules, former_ids)
        return found

    ingested = Ingested(assembled.interactions, *frames, report, build_profiles)
    report = replace(report, notes=[*notes, *accept(ingested)])
    write_ledger(raw, [*parts, *later])
    remove_leftovers(raw, LEFTOVER_HOURS)
    return replace(ingested, report=report)


@contextlib.contextmanager
def _make_scratch(work: Path) -> Iterator[Path]:
    """A folder in `work`, which is made where it is not there; gone on leaving."""
    work.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=work))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_alike(parts: Sequence[Part]) -> None:
    for part in parts:
        if set(part.columns) != set(parts[0].columns):
            raise LogError(
                f"{parts[0].name} has columns for {', '.join(sorted(parts[0].columns))}, "
                f"{part.name} for {', '.join(sorted(part.columns))}",
                "the same in all parts of a log",
                "name the columns with --set ingest.time_column=… and the like, or leave earlier runs out with "
                "--set ingest.incremental=false",
            )


def _check_left(
    assembled: Assembled | None, parts: Sequence[Part], refused: Mapping[str, int], work: Path
) -> Assembled:
    """Raise LogError where no event is left."""
    if assembled is not None:
        return assembled
    n_rows = sum(part.n_rows for part in parts)
    if n_rows == 0:
        name = parts[0].name if len(parts) == 1 else f"the log, {len(parts)} files,"
        raise LogError(f"{name} holds no events", "rows behind the header")
    counts = ", ".join(f"{n} {reason}" for reason, n in refused.items())
    raise LogError(
        f"none of the {n_rows} rows of the log is left (refused: {counts})",
        "events that no rule refuses",
        f"see the reasons in {work / REFUSED_FILE}",
    )


def _check_enough(log: Interactions, work: Path) -> None:
    """Raise LogError where what is left cannot be learned from."""
    if log.n_users == 1:
        found, expected = f"the log has one user only, {log.users.get_id(0)!r}", "two or more"
    elif log.n_items == 1:
        found, expected = f"the log has one item only, {log.items.get_id(0)!r}", "two or more"
    elif int(np.diff(log.offsets).max()) < 2:
        found, expected = f"none of the {log.n_users} users has two events", "some user with two or more"
    else:
        return
    shutil.rmtree(work / INTERACTIONS_FOLDER, ignore_errors=True)
    raise LogError(found, f"{expected}, after the rules", f"what the rules refuse is in {work / REFUSED_FILE}")


def _note_origin(former: Sequence[Part], current: Sequence[Part], fresh: frozenset[str]) -> list[str]:
    notes = []
    now = {part.name: part for part in current}
    kept = [part for part in former if part.name not in now]
    unchanged = [name for name in now if name not in fresh]
    changed = [part.name for part in former if part.name in now and part.sha256 != now[part.name].sha256]
    if kept:
        n_rows = sum(part.n_rows for part in kept)
        names = list_some([part.name for part in kept])
        notes.append(f"{len(kept)} sources with {n_rows} rows are kept from earlier runs of this store: {names}")
    if unchanged:
        notes.append(f"{len(unchanged)} of {len(now)} files had been read before, and were not read again")
    if changed:
        notes.append(f"{len(changed)} sources have changed; their former rows are replaced: {list_some(changed)}")
    return notes


def _note_rules(config: IngestConfig, timed: bool) -> list[str]:
    if timed:
        return []
    notes = ["the log has no times: the order of its lines stands for time, and windows in time are off"]
    if config.duplicates == "event":
        notes.append("without times a repeat cannot be told from the same thing done twice: repeats are kept")
    return notes


def _note_outside(items: Attributes | None) -> list[str]:
    if items is None or not items.n_outside:
        return []
    where = "their folder, images.root or else that of the items file"
    return [f"{items.n_outside} paths of pictures lead out of {where}; those are left out"]


def _report(
    assembled: Assembled,
    sources: tuple[Sequence[Part], frozenset[str]],
    refused: dict[str, int],
    notes: list[str],
    attributes: tuple[Attributes | None, Attributes | None],
) -> IngestReport:
    (parts, fresh), (items, users), log = sources, attributes, assembled.interactions
    first, last = format_times(pl.Series(assembled.span)) if log.timed else (None, None)
    contents = [part.content for part in parts]
    return IngestReport(
        n_read=sum(part.n_rows for part in parts),
        n_kept=log.n_events,
        refused=refused,
        files=[
            FileReport(
                name=part.name,
                size_bytes=part.size_bytes,
                sha256=part.sha256,
                n_rows=part.n_rows,
                status="new" if part.name in fresh else "kept",
                user_column=part.columns["user"],
            )
            for part in parts
        ],
        columns={role: parts[-1].columns[role] for role in ROLES if role in parts[-1].columns},
        timed=log.timed,
        first_time=first,
        last_time=last,
        n_users=log.n_users,
        n_items=log.n_items,
        n_events=log.n_events,
        items=count_attributes(items, ID, log.items),
        users=count_attributes(users, USER_ID, log.users),
        notes=notes,
        fingerprint=hash_text(dump_json([contents, items and items.sha256, users and users.sha256])),
    )
