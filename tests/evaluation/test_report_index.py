"""The part of a report about the index: every figure is shown, of the kind that was built, and what was not reached."""

from __future__ import annotations

from typing import Any

from recsys_cl.evaluation.report_index import render_index


def build_trial(n_probe: int, **changed: Any) -> dict[str, Any]:
    known = {
        "kind": "ivf",
        "parameters": {"n_lists": 1_404, "n_probe": n_probe},
        "ann_recall": 0.9 + n_probe / 1_000,
        "n_compared": 2_000.4 + n_probe,
        "microseconds": 12.34,
        "mib": 5.5,
        "reached": n_probe > 90,
        "chosen": n_probe == 91,
    }
    return known | changed


def render(*trade_off: dict[str, Any], **changed: Any) -> str:
    known = {"kind": "ivf", "n_items": 9_876, "dim": 8, "parameters": {"n_lists": 1_404}, "held_out": None}
    return "".join(render_index(known | {"trade_off": trade_off} | changed))


def test_every_setting_that_was_tried_is_shown_and_which_was_chosen() -> None:
    page = render(build_trial(17), build_trial(91), build_trial(93, kind="<b>"))
    for text in ("9,876", "17 of 1,404", "91 of 1,404, chosen", "0.9170", "0.9910", "2,017", "2,091", "12.3", "5.5"):
        assert text in page, text
    assert page.count("chosen</") == 1
    assert "<b>" not in page
    assert "Nothing that was tried" not in page


def test_the_curve_is_of_the_layout_that_was_chosen() -> None:
    other = build_trial(50, parameters={"n_lists": 700, "n_probe": 50})
    page = render(build_trial(17), build_trial(91), other)
    assert page.count("<circle") == 2
    assert "50 of 700" in page


def test_the_loss_against_held_out_items_is_shown() -> None:
    page = render(build_trial(91), held_out={"k": 20, "n_users": 1_234, "exact": 0.31256, "index": 0.3119})
    for text in ("recall at 20 of held-out items, 1,234 users", "0.3126", "0.3119"):
        assert text in page, text


def test_where_nothing_finds_enough_it_says_so() -> None:
    assert "Nothing that was tried" in render(build_trial(5), build_trial(91, reached=False))


def test_other_kinds_are_described_in_their_own_numbers() -> None:
    graphs = [build_trial(91 - n, kind="hnsw", parameters={"ef_search": 40 + n}) for n in range(2)]
    assert "HNSW graph: 41 candidates" in render(*graphs)


def test_without_a_choice_there_is_no_curve_and_without_an_index_nothing() -> None:
    assert "curve" not in render(build_trial(91))
    assert "curve" not in render()
    assert render_index({}) == []
