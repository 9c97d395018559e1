from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from recsys_cl.evaluation.evaluate import Evaluation
from recsys_cl.evaluation.model_card import render_model_card
from recsys_cl.evaluation.report import render_report
from recsys_cl.evaluation.report_data import METRICS, MODELS, ReportData, describe_verdict

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
HOSTILE = (
    "</bdi><script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)> | `*_[a](b)_*` \u202e\ud800\x00"
)


def build_evaluation(gain: float = 0.02) -> dict[str, Any]:
    def figure(value: float) -> dict[str, float | None]:
        return {"value": value, "low": value - 0.01, "high": value + 0.01}

    names = [f"{name}@{k}" for name in METRICS for k in (5, 20)]
    metrics = {name: {m: figure(0.1) for m in names} for name in ("model", "popularity", "item_knn")}
    for found in metrics.values():
        found["coverage@5"] = found["coverage@20"] = {"value": 0.25, "low": None, "high": None}
    compared = [f"{name}@{k}" for name in ("recall", "ndcg") for k in (5, 20)]
    differences = {name: {m: figure(gain) for m in compared} for name in ("popularity", "item_knn")}
    part = {"n_users": 321, "n_targets": 432, "metrics": metrics, "differences": differences}
    nobody: dict[str, Any] = {"n_users": 0, "n_targets": 0, "metrics": {}, "differences": {}}
    return {
        "n_users": 1234,
        "n_users_eligible": 5678,
        "n_items": 910,
        "n_targets": 1112,
        "dropped": {"users_without_training": 3, "targets_seen_in_training": 0},
        "ks": [5, 20],
        "confidence": 0.95,
        "metrics": metrics,
        "differences": differences,
        "slices": {"history_100_up": nobody, "light_users": part},
        "seconds": 1.5,
    }


def build_data(text: str = "plain") -> ReportData:
    item = {"item_id": text, "title": text, "image": PIXEL}
    return ReportData(
        name=text,
        facts={text: text},
        ingest={
            "n_read": 110,
            "n_kept": 100,
            "refused": {"duplicate": 7, text: 3},
            "n_users": 10,
            "n_items": 20,
            "timed": True,
            "first_time": text,
            "last_time": text,
            "columns": {"user": text},
            "notes": [text],
        },
        audit=[text],
        choice=[text],
        evaluation=build_evaluation(),
        training=[{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.5, "recall": 0.2}],
        popularity=[0, 1, 5, 2, 400, 3],
        health={text: {"n": 20, "dim": 4, "n_nonfinite": 0, "norm_min": 0.5, "effective_rank": 3.2}},
        index={"kind": "hnsw", "ann_recall": 0.9987, "parameters": {"ef_search": 64}},
        neighbors=[{"item": item, "neighbors": [item | {"score": 0.75}]}],  # type: ignore[list-item,typeddict-item]
        gate=[text],
        settings={"training": {"seed": 0, text: text}},
    )


class Page(HTMLParser):
    """Collects elements, what they refer to, and the text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "link", "img", "line", "circle", "polyline"}:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "action", "style", "data"}]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in {"line", "circle", "polyline"}:
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_well_formed_and_asks_for_nothing() -> None:
    page = Page(render_report(build_data()))
    assert page.open == []
    assert all(link.startswith("data:") for link in page.links)
    assert "url(" not in render_report(build_data())
    assert not {"script", "iframe", "object", "form"} & set(page.tags)


def test_hostile_text_stays_text() -> None:
    document = render_report(build_data(HOSTILE))
    document.encode("utf-8")  # no lone surrogate is left
    hostile, plain = Page(document), Page(render_report(build_data()))
    assert hostile.tags == plain.tags
    assert hostile.links == plain.links
    assert hostile.handlers == []
    assert "alert(1)" in hostile.text
    assert "\u202e" not in document
    assert "\x00" not in document


@pytest.mark.parametrize(
    "image", ["https://evil.example/x.png", "data:image/svg+xml;base64,AAAA", 'data:image/png;base64,"']
)
def test_only_pictures_that_are_part_of_the_page_are_shown(image: str) -> None:
    data = replace(build_data(), neighbors=[{"item": {"item_id": "1", "image": image}, "neighbors": []}])
    with pytest.raises(ValueError, match="not a picture"):
        render_report(data)


def test_the_page_says_what_was_measured_in_words() -> None:
    text = Page(render_report(build_data())).text
    for said in (
        "NDCG at 20",
        "Most popular items",
        "repeats another event",
        "HNSW graph",
        "users with nothing in training",
        "For whom, and with what",
        "users with 100 items or more",
    ):
        assert said in text
    for unsaid in ("ndcg@20", "item_knn", "users_without_training", "light_users", "None", "nan"):
        assert unsaid not in text
    assert "held-out items that the user has" not in text  # nothing of that kind was left out


def test_slices_are_told_with_their_counts_and_a_slice_of_nobody_without_figures() -> None:
    document, card = render_report(build_data()), render_model_card(build_data())
    light = "<tr><th>light users</th><td class=number>321</td><td class=number>432</td><td class=number>0.1000"
    assert document.count(light) == 2  # recall and NDCG
    nobody = "<tr><th>users with 100 items or more</th>" + "<td class=number>0</td>" * 2 + "<td class=number>–</td>" * 5
    assert document.count(f"{nobody}</tr>") == 2
    assert document.index("light users</th>") < document.index("users with 100 items or more</th>")
    assert "| light users | 321 | 0.1000 (0.0900\u00a0to 0.1100) | 0.1000" in card
    assert "users with 100 items or more" not in card


def test_figures_of_slices_stand_under_their_models_in_whatever_order_a_file_has_them() -> None:
    evaluation = build_evaluation()
    values = {"item_knn": 0.2, "model": 0.3, "popularity": 0.1}  # as sorted keys are written
    gains = {"item_knn": 0.15, "popularity": 0.25}
    part = evaluation["slices"]["light_users"]
    for name, wanted in (("metrics", values), ("differences", gains)):
        part[name] = {
            key: {metric: {"value": value, "low": None, "high": None} for metric in part[name][key]}
            for key, value in wanted.items()
        }
    document = render_report(replace(build_data(), evaluation=evaluation))
    line = document.split("<tr><th>light users</th>")[1].split("</tr>")[0]
    shown = [cell.split("<")[0] for cell in line.split("<td class=number>")[3:]]
    assert list(evaluation["differences"]) == ["popularity", "item_knn"]
    assert shown == [*(f"{values[name]:.4f}" for name in MODELS), "+0.2500", "+0.1500"]


def test_what_an_earlier_version_measured_is_told_without_what_it_did_not() -> None:
    evaluation = build_evaluation()
    del evaluation["slices"]
    for found in evaluation["metrics"].values():
        del found["novelty@5"], found["novelty@20"]
    data = replace(build_data(), evaluation=Evaluation.load(evaluation).dump())
    for text in (Page(render_report(data)).text, render_model_card(data)):
        assert "Diversity at 20" in text
        assert "Novelty at" not in text
        assert "light users" not in text


def test_parts_without_data_are_left_out() -> None:
    data = ReportData("run", {}, {}, [], "", build_evaluation() | {"slices": {}})
    page = Page(render_report(data))
    assert page.open == []
    for heading in ("For whom", "What went in", "Training", "How popular", "Vectors", "Neighbors", "Settings"):
        assert heading not in page.text
    assert "## Evaluation" in render_model_card(data)


@pytest.mark.parametrize("n_epochs", [1, 2, 500])
def test_curves_of_any_length_are_drawn(n_epochs: int) -> None:
    history = [{"epoch": epoch, "loss": 1.0} for epoch in range(1, n_epochs + 1)]
    popularity = [1] * n_epochs
    document = render_report(replace(build_data(), training=history, popularity=popularity))
    assert "nan" not in document
    assert len(document) < 100_000


def test_each_tower_has_a_line_of_its_own_and_its_name_in_the_legend() -> None:
    towers = {"bag": [4.0, 3.0, 2.0], "<seq>": [9.0, 8.0]}
    history = [
        {"epoch": epoch, "loss": loss, "tower": tower}
        for tower, losses in towers.items()
        for epoch, loss in enumerate(losses, 1)
    ]
    document = render_report(replace(build_data(), training=history))
    part = document.split("<h2>Training</h2>")[1].split("</section>")[0]
    assert part.count("<h3>") == 1, "no recall, no chart of it"
    lines = {
        color: len(points.split()) for points, color in re.findall(r'<polyline points="(.*?)" class="line (c.)"', part)
    }
    assert lines == {"c0": 3, "c1": 2}
    legend = re.findall(r'class="key (c.)"></i><bdi>(.*?)</bdi>', part)
    assert legend == [("c0", "bag tower"), ("c1", "&lt;seq&gt; tower")]
    ends = re.findall(r'<circle cx=".*?" cy="(.*?)"', part)
    assert float(ends[3]) < float(ends[0]), "both on one scale: the greater loss stands higher"


def test_one_training_without_a_name_has_no_legend() -> None:
    part = render_report(build_data()).split("<h2>Training</h2>")[1].split("</section>")[0]
    assert part.count("<polyline") == 2
    assert "key" not in part


def test_the_model_card_tells_of_the_release_before_and_of_what_the_index_loses() -> None:
    change = {
        "part": "tail_items",
        "metric": "recall@20",
        "earlier": 0.25,
        "candidate": 0.125,
        "low": -0.2,
        "high": -0.05,
    }
    known = {
        "release": "r_1",
        "items_lost": 0.07,
        "compared": {"changes": [change | {"n_users": 1234}]},
        "drift": {"n_items": 999, "churn": 0.31},
    }
    index = {"ann_recall": 0.99, "held_out": {"k": 20, "n_users": 1234, "exact": 0.31256, "index": 0.3119}}
    card = render_model_card(replace(build_data(), beside=known, index=index))
    for text in (
        "## Beside the previous release",
        "compared with r\\_1",
        "7.0% of its items are gone",
        "over 999 items: 31.0%",
        "| Recall at 20, tail items | 1,234 | 0.2500 | 0.1250 | -0.1250 (-0.2000\u00a0to -0.0500) |",
        "Recall at 20 of held-out items, 1,234 users: 0.3126 by exact search, 0.3119",
        "a loss of 0.0007",
    ):
        assert text in card, text
    alone = render_model_card(replace(build_data(), beside={"alone": "no release is live"}))
    assert "Not compared: no release is live." in alone
    nobody = render_model_card(replace(build_data(), beside=known | {"compared": None}))
    assert "no user could be judged by both" in nobody
    plain = render_model_card(build_data())
    assert "previous release" not in plain
    assert "held-out items, 1,234" not in plain


@pytest.mark.parametrize(("gain", "said"), [(0.02, "is better than"), (-0.02, "is worse than"), (0.0, "cannot tell")])
def test_the_verdict_follows_the_interval_of_the_difference(gain: float, said: str) -> None:
    sentences = describe_verdict(build_evaluation(gain))
    assert len(sentences) == 2
    assert all(said in sentence for sentence in sentences)


def test_the_model_card_has_every_part_and_escapes_what_it_is_given() -> None:
    card = render_model_card(build_data(HOSTILE))
    card.encode("utf-8")
    for heading in ("Intended use", "Data", "Evaluation", "Training", "Vectors", "Limits"):
        assert f"\n## {heading}\n" in card
    assert "\\<script\\>" in card
    assert "<script>" not in card
    assert "| NDCG at 20 | 0.1000" in card
    lines = [line for line in card.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {5}
