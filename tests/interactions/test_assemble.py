"""Assembling agrees with the rules on one frame in memory, whatever the batches, buckets and parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys_cl.config import IngestConfig
from recsys_cl.interactions.assemble import Assembled, Assembly, assemble_interactions
from recsys_cl.interactions.batches import Batch, make_refused
from recsys_cl.interactions.raw import parse_stream
from recsys_cl.interactions.refusals import open_refusals
from recsys_cl.interactions.rules import check_row_rules
from recsys_cl.progress import Progress, report_nothing

DAY, START = 86_400_000_000, 1_700_000_000_000_000
COLUMNS = {"user": "who", "item": "what", "time": "when", "kind": "how", "weight": "worth"}
USERS = [*(f"u{n}" for n in range(28)), "ünï", "a,b"]
RULES: list[dict[str, Any]] = [
    {},
    {"kind_weights": {"buy": 4, "view": 0.5}, "least_rating": 2, "since": "2023-11-16", "until": "2023-11-23"},
    {"duplicates": "pair", "core_users": 4, "core_items": 5, "kind_weights": {"buy": 1, "rare": 1}},
    {"duplicates": "keep", "most_events_per_day": 4, "core_items": 3},
]


def draw_log(n: int = 700, n_users: int = 30) -> pl.DataFrame:
    """Events at whole hours, of which some repeat; one user has done one thing, of a kind of its own."""
    rng = np.random.default_rng(0)
    names = [*USERS, *(f"v{n}" for n in range(n_users - len(USERS)))]
    log = {
        "who": [names[row] for row in rng.integers(n_users, size=n)],
        "what": [f"i{row}" for row in rng.geometric(0.15, size=n)],
        "when": START + rng.integers(0, 10, size=n) * DAY + rng.integers(0, 2, size=n) * DAY // 24,
        "how": rng.choice(["buy", "view", "look"], size=n),
        "worth": rng.integers(1, 6, size=n).astype(float),
    }
    lonely = pl.DataFrame({"who": "w", "what": "i1", "when": START, "how": "rare", "worth": 5.0})
    return pl.concat([pl.DataFrame(log), lonely]).with_row_index("line", offset=2)


def assemble(
    folder: Path,
    log: pl.DataFrame,
    settings: dict[str, Any],
    roles: Sequence[str] = tuple(COLUMNS),
    progress: Progress = report_nothing,
) -> Assembled | None:
    """From the log as two sources, each with a line that could not be read; only with the columns of these roles."""
    config, columns, cut = IngestConfig(**settings), {role: COLUMNS[role] for role in roles}, log.height // 3
    parts = []
    for name, rows in (("first", log[:cut]), ("second", log[cut:])):
        batch = Batch(rows.drop("line"), rows["line"].cast(pl.Int64), make_refused([(1, "ragged_row", "x")]))
        parts.append(parse_stream(name, iter([batch]), columns, "us", folder / "raw"))  # type: ignore[arg-type]
    (folder / "scratch").mkdir()
    with open_refusals(folder / "refused.parquet") as refusals:
        rules, places = check_row_rules(config), (folder / "raw", folder / "scratch")
        return assemble_interactions(Assembly(parts, *places, config, rules, refusals, progress), folder / "out")


def assemble_by_hand(log: pl.DataFrame, config: IngestConfig) -> pl.DataFrame:
    """The lines of the log that count, by user and time."""
    left = log.with_columns(factor=pl.lit(1.0), day=pl.col("when") // DAY)
    if config.kind_weights:
        left = left.with_columns(factor=pl.col("how").replace_strict(config.kind_weights, default=None)).drop_nulls()
    left = left.filter(pl.col("worth") >= config.least_rating)
    for bound, later in ((config.since, True), (config.until, False)):
        if bound:
            left = left.filter((pl.from_epoch("when", "us") >= pl.lit(bound).str.to_datetime("%Y-%m-%d")) == later)
    left = left.filter(pl.len().over("who", "day").max().over("who") <= config.most_events_per_day)
    left = left.sort("who", "when", "line")
    same = {"event": ["who", "what", "how", "when"], "pair": ["who", "what"], "keep": ["line"]}[config.duplicates]
    left = left.unique(same, keep="first", maintain_order=True)
    n_before = -1
    while left.height != n_before:
        n_before = left.height
        left = left.filter(pl.col("what").n_unique().over("who") >= config.core_users)
        left = left.filter(pl.col("who").n_unique().over("what") >= config.core_items)
    return left


def list_events(assembled: Assembled) -> list[tuple[str, str, int, float]]:
    found = assembled.interactions
    users, items = found.users.get_ids(found.expand_users()), found.items.get_ids(found.item_rows)
    return list(zip(users, items, found.times.tolist(), found.weights.tolist(), strict=True))


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("batch_rows", "bucket_rows"), [(10_000, 10**6), (13, 60), (100, 1)])
def test_what_counts_is_what_one_frame_gives(
    tmp_path: Path, rules: dict[str, Any], batch_rows: int, bucket_rows: int
) -> None:
    log, settings = draw_log(), {**rules, "batch_rows": batch_rows, "bucket_rows": bucket_rows}
    found, expected = assemble(tmp_path, log, settings), assemble_by_hand(log, IngestConfig(**rules))
    assert found is not None
    assert 0 < expected.height < log.height
    weighed = expected.with_columns(pl.col("worth") * pl.col("factor"))
    assert list_events(found) == weighed.select("who", "what", "when", "worth").rows()
    assert found.interactions.users.to_series().to_list() == sorted(set(expected["who"]))
    assert found.interactions.items.to_series().to_list() == sorted(set(expected["what"]))
    assert found.kinds == dict(expected.group_by("how").len().iter_rows())
    assert found.span == (expected["when"].min(), expected["when"].max())
    refused = pl.read_parquet(tmp_path / "refused.parquet").sort("line")
    assert refused.filter(reason="ragged_row")["file"].to_list() == ["first", "second"]
    others = refused.filter(pl.col("reason") != "ragged_row")
    gone = log.join(expected, on="line", how="anti")
    assert others["line"].to_list() == gone["line"].to_list(), "each other line is refused, and once"
    contents = [json.loads(content) for content in others["content"]]
    columns = ("who", "what", "how", "worth")
    assert [tuple(content[name] for name in columns) for content in contents] == gone.select(columns).rows()
    assert others["file"].to_list() == ["first" if line < 2 + log.height // 3 else "second" for line in gone["line"]]
    assert not list((tmp_path / "scratch").glob("*.arrows")), "spilled events go as they are written"


@pytest.mark.parametrize("bucket_rows", [10**6, 1])
def test_without_times_kinds_and_weights_the_order_of_the_log_is_kept(tmp_path: Path, bucket_rows: int) -> None:
    log = draw_log()
    found = assemble(tmp_path, log, {"batch_rows": 50, "bucket_rows": bucket_rows}, ("user", "item"))
    assert found is not None
    expected = log.with_columns(place=pl.col("line").cast(pl.Int64) - 2, one=1.0).sort("who", "line")
    assert list_events(found) == expected.select("who", "what", "place", "one").rows()
    assert (found.interactions.timed, found.span, found.kinds) == (False, (0, log.height - 1), {})


@pytest.mark.parametrize(("n_users", "bucket_rows"), [(30, 50), (30, 10**6), (900, 1)])
def test_a_bucket_holds_whole_users_and_little_more_than_its_rows(
    tmp_path: Path, n_users: int, bucket_rows: int
) -> None:
    log, buckets = draw_log(2000, n_users), list[pl.DataFrame]()

    def look(what: str, done: float, total: float, note: str = "") -> None:
        if note == "users and duplicates" and not buckets:
            paths = [tmp_path / "scratch" / f"bucket-{n}.arrows" for n in range(int(total))]
            buckets.extend(pl.read_ipc_stream(path) for path in paths)

    assemble(tmp_path, log, {"bucket_rows": bucket_rows}, progress=look)
    assert sum(bucket.height for bucket in buckets) == log.height
    assert 1 <= len(buckets) <= 256
    most = max(bucket_rows, -(-log.height // 256)) + int(log.group_by("who").len()["len"].max())  # type: ignore[arg-type]
    assert max(bucket.height for bucket in buckets) < most
    users = [row for bucket in buckets for row in sorted(set(bucket["user"]))]
    assert users == list(range(log["who"].n_unique())), "in order, and each in one"


def test_weights_are_no_smaller_than_is_told_from_zero(tmp_path: Path) -> None:
    log = draw_log().with_columns(worth=pl.lit(1e-37))
    found = assemble(tmp_path, log, {"kind_weights": {"buy": 1e-6, "view": 1, "look": 1}})
    assert found is not None
    assert found.interactions.weights.min() >= np.finfo(np.float32).tiny
    assert len(set(found.interactions.weights.tolist())) == 2


@pytest.mark.parametrize(
    ("rule", "reason"),
    [("core_users", "core_user"), ("core_items", "core_item"), ("least_rating", "below_least_rating")],
)
def test_where_nothing_is_left_nothing_is_written_but_the_reasons(tmp_path: Path, rule: str, reason: str) -> None:
    log = draw_log()
    assert assemble(tmp_path, log, {rule: 100, "duplicates": "keep"}) is None
    assert not (tmp_path / "out").exists()
    counts = pl.read_parquet(tmp_path / "refused.parquet").group_by("reason").len()
    assert dict(counts.iter_rows()) == {"ragged_row": 2, reason: log.height}
