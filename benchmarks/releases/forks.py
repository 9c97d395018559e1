"""The other end of `server`: comes in a job, goes out how a process that did it has ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ending:
    """code: see `server`; said: its result or its message; grown_mib: its largest resident memory."""

    code: int
    said: str
    grown_mib: float


class Forks:
    """A warm process, whose forks do jobs one after the other; a context manager."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.releases.server"]
        # One thread each: a fork has none of the threads that its parent had started.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | threads, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, do: str, **arguments: Any) -> Ending:
        """Do one job in a fork."""
        assert self._process.stdin is not None and self._process.stdout is not None, "pipes"  # noqa: PT018
        print(json.dumps({"do": do} | arguments, default=str), file=self._process.stdin, flush=True)
        return Ending(**json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
