"""The exports of a store: comes in each one that is made, goes out the list of them, to find again whom they name.

`exports.jsonl`: `{"time", "path" or "place", "release", "kind"}` a line. A path inside the store is relative to it, so
that a store can be moved; a `place` is no file, such as a table of a database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from recsys_cl.files import append_line

EXPORTED = "exports.jsonl"
FOLDER = "exports"
"""Where in a store the flows export to."""
_WITHOUT_USERS = ("neighbors", "embeddings of items", "embeddings of queries")


@dataclass(frozen=True)
class Export:
    """One export. path: of its file or folder, None for what is no file; place: what it is called; inside: whether it
    lies in the store."""

    place: str
    path: Path | None
    inside: bool
    release: str
    kind: str

    @property
    def names_users(self) -> bool:
        """Whether there can be users in it."""
        return self.kind not in _WITHOUT_USERS


def record_export(store: Path, place: Path | str, release: str, kind: str) -> bool:
    """Remember that an export of `release` is written to a path, or to a place that is no file; before it is written,
    so that none is missed. Gives whether it could be: a store may be read-only."""
    line: dict[str, str] = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "release": release, "kind": kind}
    if isinstance(place, Path):
        path, root = place.resolve(), store.resolve()
        line["path"] = str(path.relative_to(root) if path.is_relative_to(root) else path)
    else:
        line["place"] = place
    try:
        append_line(store / EXPORTED, json.dumps(line))
    except OSError:
        return False
    return True


def list_exports(store: Path) -> list[Export]:
    """Each place that was exported to, as it was last; a line that a full disk has cut is left out."""
    return list({export.place: export for export in _read_lines(store)}.values())


def _read_lines(store: Path) -> Iterator[Export]:
    if not (store / EXPORTED).is_file():
        return
    for line in (store / EXPORTED).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
            path = None if "place" in found else Path(found["path"])
            place = str(found["place"] if path is None else store / path)
            inside = path is not None and not path.is_absolute()
            yield Export(place, path and store / path, inside, str(found["release"]), str(found["kind"]))
        except (ValueError, TypeError, KeyError):
            continue
