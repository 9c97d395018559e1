"""The log of a training: one JSON line a step, for programs; it goes on where a killed training goes on.

A line: `{"step", "epoch", "loss", "learning_rate", "temperature", "n_positives", "positives_per_second", "seconds"}`;
after a validation `{"step", "epoch", "recall", "seconds"}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any


class StepLog:
    """Writes lines to a file; without a path, nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def open(self, step: int) -> None:
        """Begin, or go on behind `step`: later lines, which a killed training has left, are cut off."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        length = _measure(self._path, step) if step and self._path.exists() else 0
        self._file = self._path.open("a", encoding="utf-8")
        self._file.truncate(length)

    def write(self, values: Mapping[str, Any]) -> None:
        """Add a line."""
        if self._file is not None:
            self._file.write(json.dumps(dict(values)) + "\n")

    def flush(self) -> None:
        """Hand to the system what has been written."""
        if self._file is not None:
            self._file.flush()

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def _measure(path: Path, step: int) -> int:
    """Bytes of the lines up to `step`, whole ones."""
    length = 0
    with path.open("rb") as file:
        for line in file:
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                break
            length += len(line)
    return length
