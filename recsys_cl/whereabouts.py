"""Where a store names users: comes in a store, goes out every file that has a field of users, and which field.

Users are named in the releases' and the runs' tables of ids and attributes, in parsed sources, in refused rows and in
exports. All else that a store keeps of users has no ids: arrays by row, and figures over many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_cl.comparing import PER_USER
from recsys_cl.errors import StoreError
from recsys_cl.files import TEMPORARY, read_json
from recsys_cl.ids import COLUMN
from recsys_cl.interactions.ingest import INTERACTIONS_FOLDER, REFUSED_FILE
from recsys_cl.interactions.raw import EVENTS, REFUSED_ROWS, Part, read_ledger
from recsys_cl.interactions.user_tables import FORMS, UserTable
from recsys_cl.publishing import exported
from recsys_cl.publishing.exported import Export, list_exports
from recsys_cl.publishing.parts import USER_ID, USERS
from recsys_cl.publishing.seal import read_manifest
from recsys_cl.publishing.store import RELEASES, list_versions

GIVEN_USERS, USER_ATTRIBUTES, INGESTED = "given-users.parquet", "users.parquet", "ingest.json"
_IN_MEMORY = "a log that was given in memory"

Tables = dict[Path, list[UserTable]]
"""The tables in each folder."""


@dataclass(frozen=True)
class Whereabouts:
    """Every table of a store that names users, by the folder that it belongs to.

    parts: what was read, by the folder of each in the cache; orphans: folders of the cache that no ledger names.
    fields: how sources call the user. exports: in the store. logs: the raw logs that were read; outside: exports that
    cannot be reached.
    """

    releases: Tables
    parts: dict[Path, Part]
    sources: Tables
    orphans: Tables
    runs: Tables
    fields: tuple[str, ...]
    exports: list[UserTable]
    logs: list[str]
    outside: list[str]

    def list_tables(self) -> Iterator[UserTable]:
        """All of them."""
        for tables in (self.releases, self.sources, self.orphans, self.runs):
            for folder in tables:
                yield from tables[folder]
        yield from self.exports


def find_whereabouts(store: Path) -> Whereabouts:
    """Look through a store. Raises StoreError where its ledger, a run or a manifest cannot be read."""
    raw = store / "raw"
    parts = {raw / part.key: part for part in read_ledger(raw)}
    reports = {folder: _read(folder / INGESTED) for folder in list_folders(store / "runs")}
    configs = [_read(folder / "run.json").get("config", {}) for folder in reports]
    # Sources may call the user by several names; a refused row says it by that of its source.
    fields = {part.columns["user"] for part in parts.values()}
    for report in reports.values():
        fields |= {str(file.get("user_column", report["columns"]["user"])) for file in report.get("files", [])}
    names = tuple(sorted(fields))
    cached = {folder: _list_cached(folder, names) for folder in list_folders(raw)}
    releases = store / RELEASES
    versions = list_versions(store) if releases.is_dir() else []
    configs += [_read_config(releases / version) for version in versions]
    exports = [export for export in list_exports(store) if export.names_users]
    return Whereabouts(
        releases={releases / version: [UserTable(releases / version / USERS, (USER_ID,))] for version in versions},
        parts=parts,
        sources={folder: tables for folder, tables in cached.items() if folder in parts},
        orphans={folder: tables for folder, tables in cached.items() if folder not in parts},
        runs={folder: _list_run(folder, report, names) for folder, report in reports.items()},
        fields=names,
        exports=[
            UserTable(path, (USER_ID,)) for path in sorted(_walk(list_export_places(store))) if path.suffix in FORMS
        ],
        logs=sorted({log for config in configs for log in _list_logs(config)}),
        outside=sorted(export.place for export in exports if _is_beyond(export)),
    )


def _read_config(release: Path) -> dict[str, Any]:
    try:
        return read_manifest(release).config
    except StoreError as error:
        remedy = "nobody can say what it holds: publish another one, then delete that folder"
        raise StoreError(error.found, error.expected, remedy) from error


def list_folders(folder: Path) -> list[Path]:
    """The folders in a folder, without those that are half-written; none where it is not there."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(path for path in found if not path.name.startswith(TEMPORARY))


def list_export_places(store: Path) -> list[Path]:
    """The files and folders in a store where exports are; each once."""
    recorded = [export.path for export in list_exports(store) if export.path is not None and export.inside]
    return sorted({store / exported.FOLDER, *recorded})


def _list_cached(folder: Path, fields: tuple[str, ...]) -> list[UserTable]:
    tables = [UserTable(folder / EVENTS, ("user",)), UserTable(folder / REFUSED_ROWS, fields, refused=True)]
    return [table for table in tables if table.path.is_file()]


def _list_run(folder: Path, report: Mapping[str, Any], fields: tuple[str, ...]) -> list[UserTable]:
    users = report.get("users") or {"columns": {}}
    given = str(users["columns"].get(USER_ID, USER_ID))  # as the frame calls it
    tables = [
        UserTable(folder / GIVEN_USERS, (given, *fields)),
        UserTable(folder / USER_ATTRIBUTES, (USER_ID,)),
        UserTable(folder / PER_USER, (USER_ID,)),
        UserTable(folder / REFUSED_FILE, fields, refused=True),
        UserTable(folder / INTERACTIONS_FOLDER / "users.arrow", (COLUMN,)),
    ]
    return [table for table in tables if table.path.is_file()]


def _list_logs(config: Mapping[str, Any]) -> list[str]:
    """What a configuration reads users from."""
    ingest, split = config.get("ingest", {}), config.get("split", {})
    named = [ingest.get("log") or _IN_MEMORY, ingest.get("users"), split.get("test")]
    return [str(name) for name in named if name] if ingest else []


def _walk(places: Sequence[Path]) -> set[Path]:
    """The files at these places, and in them; without those that are half-written."""
    paths = {path for place in places for path in ([place, *place.rglob("*")] if place.is_dir() else [place])}
    return {p for p in paths if p.is_file() and not p.is_symlink() and not p.name.startswith(TEMPORARY)}


def _is_beyond(export: Export) -> bool:
    """Whether an export is there, and cannot be rewritten here."""
    if export.path is None:
        return True
    readable = export.inside and (export.path.is_dir() or export.path.suffix in FORMS)
    return export.path.exists() and not readable


def _read(path: Path) -> dict[str, Any]:
    """A JSON object of a run; empty where it is not there."""
    if not path.exists():
        return {}
    try:
        found: dict[str, Any] = read_json(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error})", remedy="restore it, or delete that run") from error
    return found
