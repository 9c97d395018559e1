"""Exports: comes in an open release and a request, goes out lines for everybody, or for those named, in a sink.

Exact unless asked otherwise, and blocked: memory is that of a block of queries and the item vectors, whatever the
number of users. Who asks is cut into shards, always the same ones; a sink that keeps shards goes on where a killed
process stopped. No line depends on the block or the shard that it was made in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_cl.errors import InputError
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.serving.export_jobs import CATEGORY, Job, Plan, Request, Rows, SearchJob, plan_export, repeat_text
from recsys_cl.serving.lookup import Release
from recsys_cl.serving.sinks import Head, Sink

BLOCK_ROWS = 16_384
"""Users or items answered at a time, at most."""
_BLOCK_LINES = 500_000  # lines of a block, where k is so large that they are what fills the memory
SHARD_ROWS = 65_536
"""Users or items in a shard: some 1.3 million lines at k = 20, and what is done again after a process was killed."""
_JUDGED = 1_000  # of those who ask, to tell what an approximate search missed


@dataclass(frozen=True)
class Exported:
    """A finished export. place: where it is. model: the fingerprint of its configuration. n_asked: users or items that
    were asked for; n_unknown: ids that were left out. n_lines: all that are there, n_shards_kept of n_shards from an
    earlier process. ann_recall: share of the exact answers that an approximate export holds, on at most 1,000 of those
    who asked."""

    what: str
    place: str
    release: str
    model: str
    n_asked: int
    n_unknown: int
    n_lines: int
    n_shards: int
    n_shards_kept: int
    seconds: float
    ann_recall: float | None = None

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def export(
    release: Release,
    request: Request,
    sink: Sink,
    progress: Progress = report_nothing,
    block_rows: int = BLOCK_ROWS,
    shard_rows: int = SHARD_ROWS,
) -> Exported:
    """Write what was asked for into the sink; when this returns, all of it is there.

    Lines follow those who ask (by their rows, or as their ids were given), then the rank; who has seen nearly all has
    fewer. Each names the release and the model. Raises InputError and UnknownIdError as `plan_export` and the sink do,
    and where a disk refuses.
    """
    started = time.monotonic()
    plan = plan_export(release, request)
    n_rows = min(block_rows, max(1, _BLOCK_LINES // max(1, min(request.k, release.n_items))))
    work = _Work(release, plan, f"export {request.kind}", progress, n_rows)
    shards = [
        (job, job.rows[start : start + shard_rows])
        for job in plan.jobs
        for start in range(0, len(job.rows), shard_rows)
    ]
    facts = _describe(release, request) | {"n_asked": work.total, "shard_rows": shard_rows, "n_shards": len(shards)}
    kept = 0
    try:
        with sink.open(Head(work.schema, plan.key, facts)) as writer:
            for number, (job, rows) in enumerate(shards):
                n_lines = writer.count_lines(number)
                if n_lines is None:
                    writer.write(number, work.build_blocks(job, rows))
                else:
                    work.done, work.n_lines, kept = work.done + len(rows), work.n_lines + n_lines, kept + 1
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{sink.shown} cannot be written ({why})", "a place with room for it", sink.remains) from error
    progress(work.name, work.total, work.total, f"{work.n_lines:,} lines")
    return Exported(
        request.kind,
        sink.shown,
        release.version,
        release.manifest.config_fingerprint,
        n_asked=work.total,
        n_unknown=plan.n_unknown,
        n_lines=work.n_lines,
        n_shards=len(shards),
        n_shards_kept=kept,
        seconds=round(time.monotonic() - started, 3),
        ann_recall=_measure_ann_recall(plan.jobs) if request.approximate else None,
    )


def _describe(release: Release, request: Request) -> dict[str, Any]:
    return {"release": release.version, "model": release.manifest.config_fingerprint} | request.describe()


@dataclass
class _Work:
    """What is being exported, and how far it is."""

    release: Release
    plan: Plan
    name: str
    progress: Progress
    block_rows: int
    done: int = field(default=0, init=False)
    n_lines: int = field(default=0, init=False)

    @property
    def total(self) -> int:
        """How many ask."""
        return sum(len(job.rows) for job in self.plan.jobs)

    @property
    def schema(self) -> pa.Schema:
        """Of every block."""
        return pa.schema([*self.plan.fields, ("release", CATEGORY), ("model", CATEGORY)])

    def build_blocks(self, job: Job, rows: Rows) -> Iterator[pa.Table]:
        """The lines of some who ask, block by block."""
        origin = (self.release.version, self.release.manifest.config_fingerprint)
        for start in range(0, len(rows), self.block_rows):
            self.progress(self.name, self.done, self.total, f"{self.done:,} of {self.total:,}")
            part = rows[start : start + self.block_rows]
            columns = job.build_columns(part)
            n_lines = len(columns[0])
            yield pa.Table.from_arrays([*columns, *(repeat_text(name, n_lines) for name in origin)], schema=self.schema)
            self.done, self.n_lines = self.done + len(part), self.n_lines + n_lines


def _measure_ann_recall(jobs: list[Job]) -> float:
    """The share of the exact answers that reach the least exact score, as `index.recall` counts them."""
    n_found = n_exact = 0
    for job in jobs:
        if isinstance(job, SearchJob) and len(job.rows):
            rows = job.rows[:: max(1, len(job.rows) // _JUDGED)][:_JUDGED]
            exact, found = job.find(rows, approximate=False), job.find(rows, approximate=True)
            least = np.where(exact.rows >= 0, exact.scores, np.inf).min(axis=1, keepdims=True)
            queries, _ = job.take(rows)
            scores = np.einsum("md,mkd->mk", queries, job.space.vectors[np.maximum(found.rows, 0)])
            slack = 1e-5 * np.maximum(1.0, np.abs(least))  # float32 sums in another order
            n_found += int(((found.rows >= 0) & (scores >= least - slack)).sum())
            n_exact += int((exact.rows >= 0).sum())
    return n_found / n_exact if n_exact else 1.0
