"""The part of a report about the live release: every figure that the gate saw is shown, and why there is none."""

from __future__ import annotations

from typing import Any

from recsys_cl.evaluation.report_beside import render_beside

CHANGE = {
    "part": "tail_items",
    "metric": "recall@20",
    "earlier": 0.25,
    "candidate": 0.125,
    "low": -0.2,
    "high": -0.05,
    "n_users": 1234,
}
DRIFT = {"n_items": 999, "churn": 0.31, "stored_before": 0.98, "stored_after": 0.42}
COMPARED = {"n_users": 2000, "changes": [CHANGE], "coverage": (0.5, 0.75), "popularity_share": (0.4, 0.45)}


def render(**changed: Any) -> str:
    known = {"release": "r<1>", "compared": COMPARED, "items_lost": 0.07, "drift": DRIFT}
    return render_beside(known | changed)


def test_every_figure_is_shown_and_names_are_escaped() -> None:
    page = render()
    for text in ("r&lt;1&gt;", "tail items", "1,234", "0.2500", "0.1250", "-0.1250", "[-0.2000, -0.0500]", "7.0%"):
        assert text in page, text
    for text in ("31.0%", "98.0%", "42.0%", "75.0%, was 50.0%", "45.0%, was 40.0%"):
        assert text in page, text


def test_where_nobody_was_judged_by_both_or_nothing_was_live_the_reason_is_told() -> None:
    page = render(compared=None)
    assert "No user could be judged by both" in page
    assert "r&lt;1&gt;" in page
    assert "Not compared: no release is live." in render_beside({"alone": "no release is live"})
    assert render_beside({}) == ""
