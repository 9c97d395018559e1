"""What the Prefect page shows is never a reason to fail, or to wait."""

from __future__ import annotations

from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.seen import ShownProgress


def test_a_server_that_is_gone_is_asked_once_and_told_in_one_line() -> None:
    lines: list[str] = []
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):  # nobody listens there
        shown = ShownProgress(lines.append, "a run")
        for done in range(5):
            shown("training", done, 4.0)
    (line,) = lines
    assert line.startswith("progress is no longer shown (")
