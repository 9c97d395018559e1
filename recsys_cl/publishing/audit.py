"""The audit trail of a store: comes in what was done to what is live, goes out one JSON line more in `audit.jsonl`.

A line: `{"time", "action", "from", "to"}`, releases by name or null, and what else belongs to the action.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys_cl.files import append_line

AUDIT = "audit.jsonl"


def write_audit(
    store: Path, action: str, before: str | None, after: str | None, more: Mapping[str, Any] | None = None
) -> None:
    """Add one line, flushed. Raises OSError where the disk refuses."""
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "action": action, "from": before, "to": after}
    append_line(store / AUDIT, json.dumps({**line, **(more or {})}))


def read_audit(store: Path) -> list[dict[str, Any]]:
    """All lines, oldest first; a line that a full disk has cut is left out."""
    if not (store / AUDIT).is_file():
        return []
    found = []
    for line in (store / AUDIT).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
