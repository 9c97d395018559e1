"""What a run shows on the Prefect page: its progress, the metrics beside the release before, what was refused, its
report, and neighbors in pictures."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, MutableMapping
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from recsys_cl.progress import LineProgress
from recsys_cl.publishing.parts import IMAGE_SHEET
from recsys_cl.publishing.seal import read_manifest
from recsys_cl.release_summary import build_beside_rows
from recsys_cl.runs import Run
from recsys_cl.summary import build_metric_rows

_SECONDS_BETWEEN_UPDATES = 5.0


def log_run(run: Run) -> Callable[[str], None]:
    """Writes lines to the log of the flow run that say which run and which window they are of."""
    window = run.config.ingest.window or "all"
    logger = get_run_logger(recsys_run=run.run_id, window=window)
    return lambda line: logger.info(f"run={run.run_id} window={window} {line}")


class ShownProgress:
    """Progress as a bar on the Prefect page, one for each thing that is done, and as lines in the log."""

    def __init__(self, write: Callable[[str], None], run_id: str) -> None:
        self._lines, self._write, self._run_id, self._shown = LineProgress(write), write, run_id, True
        self._bars: MutableMapping[str, tuple[UUID, float]] = {}

    def __call__(self, what: str, done: float, total: float, note: str = "") -> None:
        """See recsys_cl.progress.Progress."""
        self._lines(what, done, total, note)
        percent = 100.0 * min(done / total, 1.0) if total else 0.0
        if not self._shown:
            return
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                self._show(what, percent)
        except Exception as error:  # a server that is gone, or busy: no reason to fail, nor to wait, for a bar
            self._shown = False
            self._write(f"progress is no longer shown ({type(error).__name__})")

    def _show(self, what: str, percent: float) -> None:
        bar, updated = self._bars.get(what, (None, 0.0))
        if bar is None:
            made = create_progress_artifact(percent, description=f"{what}, run {self._run_id}")
            assert isinstance(made, UUID)
            self._bars[what] = made, time.monotonic()
        elif percent >= 100.0 or time.monotonic() - updated >= _SECONDS_BETWEEN_UPDATES:
            update_progress_artifact(bar, percent)
            self._bars[what] = bar, time.monotonic()


def show_run(run: Run) -> None:
    """Keep what a published run found on the Prefect page."""
    release = run.store / "releases" / run.read_result("publish")["release"]
    manifest = read_manifest(release)
    rows: list[dict[str, Any]] = [*build_metric_rows(run.read_result("evaluate")), *build_beside_rows(manifest)]
    before = "its baselines" if manifest.parent is None else f"its baselines and release {manifest.parent}"
    create_table_artifact(table=rows, key="metrics", description=f"Metrics of run {run.run_id}, beside {before}")
    refused = run.read_result("ingest")["refused"]
    table = [{"reason": reason, "rows": n} for reason, n in refused.items()] or [{"reason": "none", "rows": 0}]
    aside = f"; they are kept in {run.folder / 'refused.parquet'}" if refused else ""
    create_table_artifact(table=table, key="refused", description=f"Rows that run {run.run_id} refused{aside}")
    report = (release / "report.html").resolve()
    create_link_artifact(
        link=report.as_uri(), link_text=f"report of {release.name}", key="report", description=f"The file {report}"
    )
    sheet = release / IMAGE_SHEET
    if sheet.exists():
        picture = f"data:image/png;base64,{base64.b64encode(sheet.read_bytes()).decode()}"
        create_image_artifact(image_url=picture, key="neighbors", description="Neighbors by behavior and by picture")
