"""A survey of a part of a log tells how large all of it is, in whatever order and form; of a short log it is exact."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from recsys_cl.config import ImagesConfig, IngestConfig
from recsys_cl.interactions import survey as module
from recsys_cl.interactions.survey import Survey, survey_log

N_EVENTS, N_USERS, N_ITEMS = 30_000, 1_500, 300


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    """Users and items of unequal weight; in order of time, one row in twenty of no use."""
    rng = np.random.default_rng(5)
    users, items = (rng.choice(n, N_EVENTS, p=_weigh(rng, n)) for n in (N_USERS, N_ITEMS))
    times = 1_700_000_000 + 60 * np.arange(N_EVENTS)
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times}).cast(pl.String)
    bad = pl.int_range(pl.len()) % 20 == 0
    return frame.with_columns(pl.when(bad).then(pl.lit("never")).otherwise(pl.col("timestamp")).alias("timestamp"))


def _weigh(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    weights = rng.lognormal(0, 1, n)
    return weights / weights.sum()


def survey(path: Path, work: Path, **settings: object) -> Survey:
    return survey_log(IngestConfig(log=str(path), most_events_per_day=0, **settings), ImagesConfig(), work)  # type: ignore[arg-type]


def sample_blocks(monkeypatch: pytest.MonkeyPatch, size: int = 4_000) -> None:
    monkeypatch.setattr(module, "WHOLE_BYTES", 1_000)
    monkeypatch.setattr(module, "_BLOCK_BYTES", size)


def test_a_short_log_is_counted(log: pl.DataFrame, tmp_path: Path) -> None:
    log.write_csv(tmp_path / "log.csv")
    found, valid = survey(tmp_path / "log.csv", tmp_path / "work"), log.filter(pl.col("timestamp") != "never")
    assert (found.share, found.notes) == (1.0, [])
    assert (found.n_read, found.n_events) == (log.height, valid.height)
    assert (found.n_users, found.n_items) == (valid["user_id"].n_unique(), valid["item_id"].n_unique())
    assert found.n_pairs == valid.select("user_id", "item_id").n_unique()
    assert found.roles == {"user", "item", "time"}


@pytest.mark.parametrize(
    ("order", "form"),
    [("time", "csv"), ("user_id", "csv"), ("user_id", "two files"), ("time", "parquet"), ("user_id", "jsonl")],
)
def test_a_sample_tells_the_size_of_all_in_any_order_and_form(
    log: pl.DataFrame, order: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = log if order == "time" else log.sort("user_id")
    path = tmp_path / "log"
    if form == "csv":
        frame.write_csv(path := tmp_path / "log.csv")
    elif form == "two files":
        path.mkdir()
        frame.head(20_000).write_csv(path / "a.csv")
        frame.slice(20_000).write_csv(path / "b.csv")
    elif form == "parquet":
        frame.write_parquet(path := tmp_path / "log.parquet", row_group_size=7_000)
    else:
        frame.write_ndjson(path := tmp_path / "log.jsonl")
    sample_blocks(monkeypatch, {"parquet": 500, "jsonl": 5_000}.get(form, 2_000))
    found = survey(path, tmp_path / "sampled")
    assert 0.1 < found.share < 0.4
    valid = frame.filter(pl.col("timestamp") != "never")
    sizes = {"n_read": log.height, "n_events": valid.height}
    sizes |= {"n_users": valid["user_id"].n_unique(), "n_items": valid["item_id"].n_unique()}
    sizes["n_pairs"] = valid.select("user_id", "item_id").n_unique()
    for name, size in sizes.items():
        assert getattr(found, name) == pytest.approx(size, rel=0.25), name
    assert found.sample.n_events == pytest.approx(found.share * valid.height, rel=0.1)


def test_what_a_sample_cannot_tell_is_read_whole(
    log: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_blocks(monkeypatch)
    log.write_csv(tmp_path / "log.csv")
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress((tmp_path / "log.csv").read_bytes()))
    packed = survey(tmp_path / "log.csv.gz", tmp_path / "packed")
    assert (packed.share, packed.n_read) == (1.0, log.height)
    assert packed.notes == ["read whole: it is compressed as a whole, and cannot be sampled"]
    core = survey(tmp_path / "log.csv", tmp_path / "core", core_users=5)
    assert (core.share, len(core.notes)) == (1.0, 1)
    assert core.n_users < packed.n_users


def test_the_estimate_of_ids_is_linear_where_blocks_share_none_and_stops_where_all_are_seen() -> None:
    assert module._extrapolate(np.ones(640, dtype=np.int64), 64, 0.1) == pytest.approx(6_400, rel=0.02)
    assert module._extrapolate(np.full(640, 30, dtype=np.int64), 64, 0.1) == 640
