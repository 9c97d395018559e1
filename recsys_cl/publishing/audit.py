"""The audit trail of a store: comes in what was done to what is live, goes out one JSON line more in `audit.jsonl`.

A line: `{"time", "action", "from", "to"}`, releases by name or null, and what else belongs to the action.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

AUDIT = "audit.jsonl"


def write_audit(
    store: Path, action: str, before: str | None, after: str | None, more: Mapping[str, Any] | None = None
) -> None:
    """Add one line, flushed. Raises OSError where the disk refuses."""
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "action": action, "from": before, "to": after}
    handle = os.open(store / AUDIT, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(handle, (json.dumps({**line, **(more or {})}) + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


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
