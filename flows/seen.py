"""What a flow run shows on the Prefect page: its progress, and after each stage, finished or not, what there is of it:
the rows that were refused, the data contract, metrics, why it was refused, a summary, and neighbors in pictures."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, MutableMapping, Sequence
from shlex import quote
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from recsys_cl.contract import read_bounds
from recsys_cl.files import read_json
from recsys_cl.image_parts import FOLDER as IMAGES
from recsys_cl.interactions.ingest import REFUSED_FILE
from recsys_cl.interactions.refusals import count_refused
from recsys_cl.profile_summary import build_bound_rows
from recsys_cl.progress import LineProgress
from recsys_cl.publishing.manifest import GateResult
from recsys_cl.publishing.parts import IMAGE_SHEET
from recsys_cl.publishing.seal import read_manifest
from recsys_cl.publishing.store import find_current
from recsys_cl.release_summary import build_beside_rows
from recsys_cl.reporting import GATE
from recsys_cl.runs import Run
from recsys_cl.summary import build_metric_rows

SHOWN_STAGES = ("ingest", "evaluate", "images", "publish")
"""Those of which there is something to show, beside why they were refused."""
Rows = list[dict[str, Any]]
_SECONDS_BETWEEN_UPDATES = 5.0


def log_of(**facts: str) -> Callable[[str], None]:
    """Writes lines to the log of the flow run that begin with what they are of, such as `run=… stage=train`."""
    logger = get_run_logger(None, **{f"recsys_{name}": value for name, value in facts.items()})
    prefix = " ".join(f"{name}={value}" for name, value in facts.items())
    return lambda line: logger.info(f"{prefix} {line}")


def log_stage(run: Run, stage: str) -> Callable[[str], None]:
    """Writes lines that say which run, window and stage they are of."""
    return log_of(run=run.run_id, window=run.config.ingest.window or "all", stage=stage)


class ShownProgress:
    """Progress as a bar on the Prefect page, one for each thing that is done, and as lines in the log."""

    def __init__(self, write: Callable[[str], None], of: str) -> None:
        """of: what it is the progress of, such as `run 2026…`."""
        self._lines, self._write, self._of, self._shown = LineProgress(write), write, of, True
        self._bars: MutableMapping[str, tuple[UUID, float]] = {}

    def __call__(self, what: str, done: float, total: float, note: str = "") -> None:
        """See recsys_cl.progress.Progress."""
        self._lines(what, done, total, note)
        percent = 100.0 * min(done / total, 1.0) if total else 0.0
        if not self._shown or not self._is_due(what, percent):
            return
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # milliseconds: not at each step
                self._show(what, percent)
        except Exception as error:  # a server that is gone, or busy: no reason to fail, nor to wait, for a bar
            self._shown = False
            self._write(f"progress is no longer shown ({type(error).__name__})")

    def _is_due(self, what: str, percent: float) -> bool:
        """Whether a bar is new, full, or has not moved for long enough."""
        if percent >= 100.0 or what not in self._bars:
            return True
        return time.monotonic() - self._bars[what][1] >= _SECONDS_BETWEEN_UPDATES

    def _show(self, what: str, percent: float) -> None:
        if what in self._bars:
            bar, _ = self._bars[what]
            update_progress_artifact(bar, percent)
        else:
            made = create_progress_artifact(percent, description=f"{what}, {self._of}")
            assert isinstance(made, UUID)
            bar = made
        self._bars[what] = bar, time.monotonic()


def warn_of_changes(run: Run) -> None:
    """A warning in the log for each figure of what was ingested that the data contract did not expect."""
    where = f"run={run.run_id} window={run.config.ingest.window or 'all'} stage=ingest"
    for bound in read_bounds(run.folder):
        if bound.crossed:
            get_run_logger().warning(f"{where} data contract: {bound.describe()}")


def show_stage(run: Run, stage: str, what: str = "", reasons: Sequence[str] = ()) -> None:
    """Keep what there is of a stage on the Prefect page, whether or not it has finished; what, reasons: of whatever
    refused it."""
    if stage == "ingest":
        _show_refused(run)
        _show_contract(run)
    elif stage == "evaluate" and run.is_done(stage):
        _show_metrics(run, [], "its baselines")
    elif stage == "images" and run.is_done(stage):
        picture = base64.b64encode((run.folder / IMAGES / IMAGE_SHEET).read_bytes()).decode()
        description = f"Neighbors by behavior and by picture, run {run.run_id}"
        create_image_artifact(f"data:image/png;base64,{picture}", key="neighbors", description=description)
    elif stage == "publish" and run.is_done(stage):
        _show_release(run)
    elif stage == "publish":
        _show_candidate(run, reasons)
    if reasons:
        table = [{"reason": reason} for reason in reasons]
        create_table_artifact(table, key="refusal", description=f"{what}: why run {run.run_id} ended in {stage}")


def _show_refused(run: Run) -> None:
    refused = _count_refused(run)
    if refused is None:  # the log could not even be opened
        return
    table: Rows = [{"reason": reason, "rows": n} for reason, n in refused.items()] or [{"reason": "none", "rows": 0}]
    aside = f"; they are kept in {run.folder.resolve() / REFUSED_FILE}" if refused else ""
    create_table_artifact(table, key="refused", description=f"Rows that run {run.run_id} refused{aside}")


def _count_refused(run: Run) -> dict[str, int] | None:
    """By reason, of an ingest that has finished or was refused itself; None where it has read nothing."""
    if run.is_done("ingest"):
        counts: dict[str, int] = run.read_result("ingest")["refused"]
        return counts
    path = run.folder / REFUSED_FILE
    return count_refused(path) if path.is_file() else None


def _show_contract(run: Run) -> None:
    bounds = read_bounds(run.folder)
    if not bounds:
        return
    head, *rows = build_bound_rows(bounds)
    names = [name or "verdict" for name in head]
    table: Rows = [
        {"of": bound.shown_scope} | dict(zip(names, row, strict=True)) for bound, row in zip(bounds, rows, strict=True)
    ]
    n_changed = sum(bound.crossed for bound in bounds)
    description = f"Data contract of run {run.run_id}: {n_changed} of {len(bounds)} figures changed past their bounds"
    create_table_artifact(table, key="contract", description=description)


def _show_metrics(run: Run, beside: Sequence[dict[str, str]], than: str) -> None:
    table: Rows = [*build_metric_rows(run.read_result("evaluate")), *beside]
    create_table_artifact(table, key="metrics", description=f"Metrics of run {run.run_id}, beside {than}")


def _show_release(run: Run) -> None:
    name = run.read_result("publish")["release"]
    manifest = read_manifest(run.store / "releases" / name)
    _show_beside(run, manifest.gate)
    live = "is live" if find_current(run.store) == name else "was published, and is not the live one"
    lines = [f"# Release {name} {live}", *_summarize(run, manifest.gate)]
    if manifest.gate.forced:
        lines += [f"Forced ({manifest.gate.forced}), though:", *(f"- {reason}" for reason in manifest.gate.reasons)]
    lines.append(f"Report: `{run.store.resolve() / 'releases' / name / 'report.html'}`")
    if find_current(run.store) == name:
        lines.append(f"Look items up in it: `recsys-cl serve --store {quote(str(run.store.resolve()))}`")
    create_markdown_artifact("\n\n".join(lines), key="report", description=f"Run {run.run_id} as release {name}")


def _show_candidate(run: Run, reasons: Sequence[str]) -> None:
    """What there is of a release that was not published: all where the gate has judged it."""
    path = run.folder / GATE
    gate = GateResult.model_validate(read_json(path)) if path.is_file() else GateResult()
    if not reasons or list(gate.reasons) != list(reasons):  # of another try, or none
        return
    _show_beside(run, gate)
    lines = [f"# Run {run.run_id} was not published", *_summarize(run, gate), "The gate refused it:"]
    lines += [
        "\n".join(f"- {reason}" for reason in reasons),
        f"Report: `{run.folder.resolve() / 'report.html'}`",
        f'To publish it all the same: `{run.resume_command} --force "REASON"`',
    ]
    create_markdown_artifact("\n\n".join(lines), key="report", description=f"Run {run.run_id}, refused by the gate")


def _show_beside(run: Run, gate: GateResult) -> None:
    """The metrics again, where there is a row more by now."""
    beside = build_beside_rows(gate)
    if beside and gate.beside is not None:
        _show_metrics(run, beside, f"its baselines and release {gate.beside['release']}")


def _summarize(run: Run, gate: GateResult) -> list[str]:
    """Paragraphs of Markdown: the run, its metrics as a table, and the rows that were refused."""
    rows = [*build_metric_rows(run.read_result("evaluate")), *build_beside_rows(gate)]
    names = list(rows[0])
    table = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in rows)]
    ingest = run.read_result("ingest")
    counts = "".join(f", {n:,} {reason}" for reason, n in ingest["refused"].items())
    return [
        f"Run {run.run_id}, window {run.config.ingest.window or 'all'}",
        "\n".join(f"| {' | '.join(cells)} |" for cells in table),
        f"Of {ingest['n_read']:,} rows {sum(ingest['refused'].values()):,} were refused{counts}",
    ]
