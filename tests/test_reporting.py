"""The report of a run shows what the stages wrote, trusts no text of the log, and does without what is missing."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recsys_cl.config import apply_settings
from recsys_cl.pipeline import Outcome, run_stage
from recsys_cl.runs import Run, open_run, reconfigure
from recsys_cl.serving.lookup import open_release

HOSTILE = "</bdi><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"

    @property
    def pictures(self) -> list[str]:
        return [str(attributes["src"]) for tag, attributes in self.tags if tag == "img"]


def publish_with(outcome: Outcome, folder: Path, items: pl.DataFrame | None) -> Run:
    """The finished run, published anew with other attributes of the items."""
    shutil.copytree(outcome.run.store, folder / "store")
    run = open_run(folder / "store", outcome.run.run_id)
    (run.folder / "items.parquet").unlink()
    if items is not None:
        items.write_parquet(run.folder / "items.parquet")
    run_stage(run, "publish")
    return run


def list_items(outcome: Outcome) -> list[str]:
    return open_release(outcome.run.store).parts.catalog.items.to_series().to_list()


def test_report_and_model_card_tell_what_the_stages_found(tiny_outcome: Outcome) -> None:
    folder = tiny_outcome.run.store / "releases" / tiny_outcome.release
    page, card = Page(folder / "report.html"), (folder / "model_card.md").read_text(encoding="utf-8")
    evaluation, train = tiny_outcome.read("evaluation"), tiny_outcome.read("train")
    assert tiny_outcome.run.run_id in page.text
    assert tiny_outcome.run.run_id in card
    assert tiny_outcome.run.config.fingerprint in page.text
    figure = f"{evaluation['metrics']['model']['ndcg@20']['value']:.4f}"
    assert figure in page.text
    assert figure in card
    assert all(reason in page.text for reason in train["choice"])
    assert train["audit_lines"][0] in page.text
    assert "1,500" in page.text
    assert "training.epochs" in page.text
    assert page.tags[0][0] == "html"
    assert [line for line in card.splitlines() if line.startswith("# ")]


def test_items_are_shown_with_titles_and_pictures_beside_their_true_neighbors(tiny_outcome: Outcome) -> None:
    page = Page(tiny_outcome.run.folder / "report.html")
    release = open_release(tiny_outcome.run.store)
    assert len(page.pictures) == 8 * 7
    for uri in page.pictures:
        with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as picture:
            assert picture.size == (64, 64)
    cards = re.split(r'<div class="item asked">', (tiny_outcome.run.folder / "report.html").read_text())[1:]
    known = {item: release.parts.catalog.describe(row)["title"] for row, item in enumerate(list_items(tiny_outcome))}
    assert len(cards) == 8
    for card in cards:
        shown = re.findall(r"<bdi>([^<]*)</bdi><small><bdi>(i\d+)</bdi></small>", card)
        assert [title for title, _ in shown] == [known[item] for _, item in shown]
        asked, *near = [item for _, item in shown][:7]
        assert near == [answer["item_id"] for answer in release.answer_similar(asked, 6)]
    popularity = np.bincount(release.parts.seen.item_rows)
    first = re.search(r"<small><bdi>(i\d+)</bdi></small>", cards[0])
    assert first is not None
    row = release.parts.catalog.items.find_row(first[1])
    assert popularity[row] == popularity.max()


def test_a_log_without_attributes_is_reported_by_ids(tiny_outcome: Outcome, tmp_path: Path) -> None:
    run = publish_with(tiny_outcome, tmp_path, None)
    page = Page(run.folder / "report.html")
    assert page.pictures == []
    assert len(re.findall(r"^i\d{5}$", page.text, flags=re.MULTILINE)) == 8 * 7


def test_hostile_titles_are_shown_and_never_obeyed(tiny_outcome: Outcome, tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": list_items(tiny_outcome)}).with_columns(title=pl.lit(HOSTILE))
    run = publish_with(tiny_outcome, tmp_path, items)
    path = run.folder / "report.html"
    page = Page(path)
    assert "<script" not in path.read_text(encoding="utf-8").lower()
    assert page.pictures == []
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("alert(1)") == 8 * 7
    assert "\u202e" not in path.read_text(encoding="utf-8")


def test_pictures_that_cannot_be_read_are_left_out_and_the_others_stay(tiny_outcome: Outcome, tmp_path: Path) -> None:
    Image.new("L", (9, 9), 99).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("no picture")
    paths = [tmp_path / name for name in ("whole.png", "cut.png", "text.png", "missing.png", ".")]
    texts = [*map(str, paths), "https://pictures.example/a.png", "a\0b", None]
    ids = list_items(tiny_outcome)
    column = [texts[place % len(texts)] for place in range(len(ids))]
    run = publish_with(tiny_outcome, tmp_path, pl.DataFrame({"item_id": ids, "image_path": column}))
    page = Page(run.folder / "report.html")
    shown = re.findall(r"^(i\d{5})$", page.text, flags=re.MULTILINE)
    n_whole = sum(ids.index(item) % len(texts) == 0 for item in shown)
    assert 0 < n_whole == len(page.pictures)
    assert "pictures.example" not in (run.folder / "report.html").read_text()


def test_what_the_gate_holds_against_a_release_is_in_its_report(tiny_outcome: Outcome, tmp_path: Path) -> None:
    shutil.copytree(tiny_outcome.run.store, tmp_path / "store")
    config = apply_settings(tiny_outcome.run.config, ["publishing.least_effective_rank=2"])
    run = reconfigure(open_run(tmp_path / "store", tiny_outcome.run.run_id), config)
    path = run.folder / "published" / "queries.npy"
    vectors = np.load(path)
    vectors[:, :-1] = vectors[:1, :-1]
    np.save(path, vectors)
    run_stage(run, "publish", force="to look at it")
    page = Page(run.folder / "report.html")
    assert "The gate spoke against this release:" in page.text
    assert "user vectors have collapsed" in page.text


@pytest.mark.parametrize("n_items", [2, 3])
def test_a_catalog_of_a_handful_is_reported(tmp_path: Path, n_items: int) -> None:
    from recsys_cl.config import build_config
    from recsys_cl.pipeline import run_all
    from recsys_cl.runs import create_run

    lines = [
        f"u{user},i{(user + step) % n_items},{1_700_000_000 + 9000 * user + step}"
        for user in range(30)
        for step in (0, 1)
    ]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]))
    config = build_config(
        {
            "ingest": {"log": str(tmp_path / "log.csv")},
            "split": {"by": "random", "test_share": 0.4},
            "model": {"dim": 4},
            "training": {"epochs": 1, "least_steps": 0, "n_threads": 1},
            "evaluation": {"n_resamples": 100, "ks": [1]},
            "publishing": {"require_gain": False, "least_effective_rank": 0.0},
        }
    )
    outcome = run_all(create_run(tmp_path / "store", config))
    page = Page(outcome.run.folder / "report.html")
    assert len(re.findall(r"^asked for$", page.text, flags=re.MULTILINE)) == 2
    assert len(re.findall(r"^score ", page.text, flags=re.MULTILINE)) == 2 * (n_items - 1)
