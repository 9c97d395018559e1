"""A log of any form gives the same interactions; rows are kept or refused with one reason; failures leave no mess."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys_cl.config import ImagesConfig, IngestConfig
from recsys_cl.errors import ConfigError, LogError, StoreError, UnreachableError
from recsys_cl.files import TEMPORARY
from recsys_cl.interactions.ingest import Ingested, ingest_log
from recsys_cl.interactions.report import IngestReport
from recsys_cl.interactions.sql import open_query
from recsys_cl.interactions.table import Interactions

HEADER = "user_id,item_id,timestamp\n"
ROWS = [f"u{n % 7},i{n * n % 11},{1_700_000_000 + n * 3600}" for n in range(60)]


class Store:
    """A store in a temporary folder: each run has its own folder, all share the raw cache."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n = folder, 0

    @property
    def raw(self) -> Path:
        return self.folder / "store" / "raw"

    @property
    def work(self) -> Path:
        return self.folder / "store" / "runs" / str(self.n)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
        return str(path)

    def run(self, log: str = "", frame: pl.DataFrame | None = None, **settings: Any) -> Ingested:
        self.n += 1
        images = ImagesConfig(**settings.pop("images", {}))
        ingested = ingest_log(IngestConfig(log=log, **settings), images, self.raw, self.work, frame=frame)
        self.check(ingested.report)
        return ingested

    def check(self, report: IngestReport) -> None:
        assert report.n_read == report.n_kept + sum(report.refused.values()) == sum(f["n_rows"] for f in report.files)
        counts = dict(self.refused()["reason"].value_counts().iter_rows())
        assert counts == report.refused
        assert IngestReport.load(json.loads(json.dumps(report.dump()))) == report
        self.check_clean()

    def refused(self) -> pl.DataFrame:
        return pl.read_parquet(self.work / "refused.parquet")

    def check_clean(self) -> None:
        assert not list(self.folder.rglob(".partial-*"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def list_events(interactions: Interactions) -> list[tuple[str, str, int, float]]:
    users = interactions.users.get_ids(interactions.expand_users())
    items = interactions.items.get_ids(interactions.item_rows)
    return list(zip(users, items, interactions.times.tolist(), interactions.weights.tolist(), strict=True))


def test_events_come_out_by_user_and_time_with_ties_in_order_of_the_log(store: Store) -> None:
    log = store.write("a.csv", HEADER + "é,b,5\na,z,9\né,a,5\na,y,3\né,c,1\n")
    ingested = store.run(log)
    assert list_events(ingested.interactions) == [
        ("a", "y", 3_000_000, 1.0),
        ("a", "z", 9_000_000, 1.0),
        ("é", "c", 1_000_000, 1.0),
        ("é", "b", 5_000_000, 1.0),
        ("é", "a", 5_000_000, 1.0),
    ]
    report = ingested.report
    assert (report.timed, report.first_time, report.last_time) == (True, "1970-01-01T00:00:01Z", "1970-01-01T00:00:09Z")
    assert report.columns == {"user": "user_id", "item": "item_id", "time": "timestamp"}
    assert (report.n_users, report.n_items, report.n_events) == (2, 5, 5)


def test_every_refused_row_has_its_file_line_reason_and_content(store: Store) -> None:
    log = store.write(
        "a.csv",
        "user_id,item_id,ts,event,rating\n"
        "a,x,1,buy,5\na,x,1,buy,5\nb,x,2,buy,1\nb,y,never,buy,5\nb\n,y,3,buy,5\nb,y,4,look,5\n"
        "c,x,999999,buy,5\nb,y,5,buy,-1\nb,y,5,buy,nan\na,y,6,buy,4\nb,x,7,buy,4\nb,y,8,buy,4\nd,q,8,buy,4\n",
    )
    settings: dict[str, Any] = {"kind_weights": {"buy": 2}, "least_rating": 2, "until": "1970-01-02", "core_items": 2}
    ingested = store.run(log, **settings)
    assert list_events(ingested.interactions) == [
        ("a", "x", 1_000_000, 10.0),
        ("a", "y", 6_000_000, 8.0),
        ("b", "x", 7_000_000, 8.0),
        ("b", "y", 8_000_000, 8.0),
    ]
    refused = {line: (file, reason, content) for file, line, reason, content in store.refused().iter_rows()}
    assert {line: reason for line, (_, reason, _) in refused.items()} == {
        3: "duplicate",
        4: "below_least_rating",
        5: "bad_time",
        6: "ragged_row",
        7: "missing_user_id",
        8: "kind_not_counted",
        9: "outside_date_window",
        10: "weight_not_positive",
        11: "bad_weight",
        15: "core_item",
    }
    assert {file for file, _, _ in refused.values()} == {"a.csv"}
    assert refused[6][2] == "b"
    assert json.loads(refused[5][2]) == {"user_id": "b", "item_id": "y", "ts": "never", "event": "buy", "rating": "5"}
    assert json.loads(refused[3][2]) == {
        "user_id": "a",
        "item_id": "x",
        "ts": "1970-01-01T00:00:01Z",
        "event": "buy",
        "rating": 5.0,
    }


def put_log(store: Store, form: str) -> dict[str, Any]:
    frame = pl.read_csv((HEADER + "\n".join(ROWS)).encode())
    path = store.folder / f"log.{form}"
    if form == "frame":
        return {"frame": frame}
    if form == "sqlite":
        import sqlite3

        with sqlite3.connect(path) as connection:
            connection.execute("create table log (user_id text, item_id text, timestamp integer)")
            connection.executemany("insert into log values (?, ?, ?)", frame.rows())
        return {"log": f"sqlite:///{path}", "query": "select * from log order by rowid"}
    if form == "folder":
        for n in range(3):
            store.write(f"log.folder/part-{n}.csv", HEADER + "\n".join(ROWS[20 * n : 20 * n + 20]))
        return {"log": str(path)}
    if form == "tsv":
        frame.write_csv(path, separator="\t")
    elif form == "parquet":
        frame.write_parquet(path, row_group_size=9)
    elif form == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path)
    return {"log": str(path)}


@pytest.mark.parametrize("form", ["tsv", "parquet", "jsonl", "folder", "frame", "sqlite"])
def test_every_form_gives_the_same_interactions(tmp_path: Path, form: str) -> None:
    first, second = Store(tmp_path / "1"), Store(tmp_path / "2")
    first.folder.mkdir(), second.folder.mkdir()
    expected = first.run(**put_log(first, "csv"))
    found = second.run(**put_log(second, form))
    assert list_events(found.interactions) == list_events(expected.interactions)
    assert found.report.n_read == 60


@pytest.mark.parametrize(
    "rules", [{}, {"core_users": 4, "core_items": 5}, {"duplicates": "pair"}, {"most_events_per_day": 22}]
)
def test_batches_and_buckets_change_nothing(tmp_path: Path, rules: dict[str, Any]) -> None:
    rng = np.random.default_rng(7)
    lines = [f"u{a},i{b},{c}" for a, b, c in rng.integers(0, (40, 25, 400_000), (3000, 3))]
    results = []
    for number, (batch_rows, bucket_rows) in enumerate([(500_000, 5_000_000), (331, 1), (1700, 300)]):
        store = Store(tmp_path / str(number))
        log = store.write("a.csv", HEADER + "\n".join(lines))
        ingested = store.run(log, batch_rows=batch_rows, bucket_rows=bucket_rows, **rules)
        refused = store.refused().sort("line").rows()
        results.append((list_events(ingested.interactions), refused, ingested.report))
    assert results[0] == results[1] == results[2]
    assert results[0][0]


def test_lines_without_times_keep_their_order(store: Store) -> None:
    ingested = store.run(store.write("a.txt", "2 b a b\n1 c\n1 a\n"))
    assert list_events(ingested.interactions) == [
        ("1", "c", 3, 1.0),
        ("1", "a", 4, 1.0),
        ("2", "b", 0, 1.0),
        ("2", "a", 1, 1.0),
        ("2", "b", 2, 1.0),
    ]
    assert not ingested.report.timed
    assert ingested.report.first_time is None
    assert any("order of its lines stands for time" in note for note in ingested.report.notes)
    assert store.run(store.write("a.txt", "2 b a b\n1 c\n1 a\n"), duplicates="pair").report.refused == {"duplicate": 1}


BAD = {
    "empty": ("", "is empty"),
    "header": (HEADER, "a.csv holds no events"),
    "columns": ("a,b\n1,2\n", "looks like the user"),
    "delimiter": ("user_id;item_id;timestamp\nu1;i1;1\n", 'set "ingest.delimiter=;"'),
    "ambiguous": ("user_id,uid,item_id\n1,2,3\n", "ingest.user_column"),
    "times": (HEADER + "u1,i1,never\nu2,i2,also\n", "refused: 2 bad_time"),
    "absurd": (HEADER + "u1,i1,-5\nu2,i2,99999999999999999999\n", "refused: 2 absurd_time"),
    "weights": ("user,item,rating\na,b,-1\nc,d,NaN\n", "1 bad_weight, 1 weight_not_positive"),
    "one user": ("user_id,item_id\nu1,i1\nu1,i2\n", "one user only, 'u1'"),
    "one item": ("user_id,item_id\nu1,i1\nu2,i1\nu1,i1\n", "one item only, 'i1'"),
    "single events": ("user_id,item_id\nu1,i1\nu2,i2\n", "none of the 2 users has two events"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_log_that_cannot_be_learned_from_ends_in_one_message(store: Store, name: str) -> None:
    text, message = BAD[name]
    log = store.write("a.csv", text)
    with pytest.raises(LogError) as caught:
        store.run(log)
    assert message in str(caught.value)
    store.check_clean()
    assert not (store.work / "interactions").exists()
    assert not (store.raw / "sources.json").exists()
    if "refused: " in str(caught.value):
        assert store.refused().height == 2


def test_a_missing_log_leaves_nothing_behind(store: Store) -> None:
    with pytest.raises(LogError, match="there is no log"):
        store.run(str(store.folder / "none.csv"))
    with pytest.raises(ConfigError, match="no log is given"):
        store.run()
    with pytest.raises(LogError, match="there is no items file"):
        store.run(store.write("a.csv", HEADER + "\n".join(ROWS)), items=str(store.folder / "none.csv"))
    assert not (store.folder / "store").exists()


def test_nothing_survives_the_core(store: Store) -> None:
    log = store.write("a.csv", HEADER + "\n".join(ROWS))
    with pytest.raises(LogError, match="none of the 60 rows"):
        store.run(log, core_users=50)
    assert store.refused()["reason"].to_list() == ["core_user"] * 60


def test_an_incremental_run_reads_what_is_new_and_keeps_what_was(store: Store) -> None:
    parts = ["\n".join(ROWS[20 * n : 20 * n + 20]) for n in range(3)]
    for n in range(2):
        store.write(f"log/{n}.csv", HEADER + parts[n])
    log = str(store.folder / "log")
    first = store.run(log)
    assert [file["status"] for file in first.report.files] == ["new", "new"]
    store.write("log/2.csv", HEADER + parts[2])
    (store.folder / "log/0.csv").unlink()
    second = store.run(log)
    assert [(file["name"], file["status"]) for file in second.report.files] == [
        ("0.csv", "kept"),
        ("1.csv", "kept"),
        ("2.csv", "new"),
    ]
    assert any("1 sources with 20 rows are kept from earlier runs" in note for note in second.report.notes)
    fresh = Store(store.folder / "fresh")
    whole = fresh.run(**put_log(fresh, "folder"))
    assert list_events(second.interactions) == list_events(whole.interactions)
    store.write("log/2.csv", HEADER + parts[2] + "\nnew,i1,1700000000\nnew,i2,1700000001")
    third = store.run(log)
    assert third.report.n_read == 62
    assert any("2.csv" in note and "replaced" in note for note in third.report.notes)
    assert len(list(store.raw.iterdir())) == 4, "three parts and the ledger"
    alone = store.run(log, incremental=False)
    assert [file["name"] for file in alone.report.files] == ["1.csv", "2.csv"]
    assert alone.report.n_read == 42


def test_another_reading_of_the_same_file_reads_it_again(store: Store) -> None:
    log = store.write("a.csv", HEADER + "\n".join(ROWS))
    store.run(log)
    assert store.run(log).report.files[0]["status"] == "kept"
    again = store.run(log, time_unit="ms")
    assert again.report.files[0]["status"] == "new"
    assert again.report.first_time == "1970-01-20T16:13:20Z"


def test_rules_may_change_without_reading_again(store: Store) -> None:
    log = store.write("a.csv", HEADER + "\n".join(ROWS))
    first = store.run(log)
    second = store.run(log, until="2023-11-16")
    assert second.report.files[0]["status"] == "kept"
    assert second.report.n_kept < first.report.n_kept
    assert second.report.fingerprint == first.report.fingerprint


def test_the_fingerprint_knows_contents_and_not_paths(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "1"), Store(tmp_path / "2")
    text = HEADER + "\n".join(ROWS)
    first = one.run(one.write("here/a.csv", text)).report.fingerprint
    assert two.run(two.write("there/a.csv", text)).report.fingerprint == first
    assert two.run(two.write("there/a.csv", text + "\nx,y,1")).report.fingerprint != first


def test_a_failed_run_changes_nothing_that_was_kept(store: Store) -> None:
    log = store.write("a.csv", HEADER + "\n".join(ROWS))
    store.run(log)
    ledger = (store.raw / "sources.json").read_text()
    store.write("a.csv", HEADER + "a,b,never\n")
    with pytest.raises(LogError):
        store.run(log)
    assert (store.raw / "sources.json").read_text() == ledger
    store.write("a.csv", HEADER + "\n".join(ROWS))
    assert store.run(log).report.files[0]["status"] == "kept"


def test_a_cache_that_lost_a_part_or_a_ledger_that_is_none(store: Store) -> None:
    log = store.write("log/a.csv", HEADER + "\n".join(ROWS))
    store.run(log)
    other = store.write("log/b.csv", HEADER + "\n".join(ROWS[:50]))
    [part] = [path for path in store.raw.iterdir() if path.is_dir()]
    (part / "events.parquet").unlink()
    with pytest.raises(StoreError, match=r"no longer holds the rows of a\.csv"):
        store.run(other)
    assert store.run(log).report.files[0]["status"] == "new"
    (store.raw / "sources.json").write_text("{}")
    with pytest.raises(StoreError, match=r"sources\.json"):
        store.run(log)


def test_parts_with_and_without_times_do_not_mix(store: Store) -> None:
    store.write("log/a.csv", HEADER + "\n".join(ROWS))
    store.write("log/b.csv", "user_id,item_id\na,b\n")
    with pytest.raises(LogError, match=r"a\.csv has columns for item, time, user, b\.csv for item, user"):
        store.run(str(store.folder / "log"))


def test_interrupted_reading_keeps_the_parts_that_were_parsed(store: Store) -> None:
    for n in range(3):
        store.write(f"log/{n}.csv", HEADER + "\n".join(ROWS[20 * n : 20 * n + 20]))

    def interrupt(what: str, done: float, total: float, note: str = "") -> None:
        if note == "1.csv":
            raise KeyboardInterrupt

    config = IngestConfig(log=str(store.folder / "log"))
    with pytest.raises(KeyboardInterrupt):
        ingest_log(config, ImagesConfig(), store.raw, store.work, interrupt)
    store.check_clean()
    assert [file["status"] for file in store.run(config.log).report.files] == ["kept", "new", "new"]


def test_interrupted_rules_leave_no_half_written_file(store: Store) -> None:
    log = store.write("a.csv", HEADER + "\n".join(ROWS))
    for step in ("counting", "applying rules", "writing interactions"):

        def interrupt(what: str, done: float, total: float, note: str = "", step: str = step) -> None:
            if what == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ingest_log(IngestConfig(log=log), ImagesConfig(), store.raw, store.work, interrupt)
        store.check_clean()
        assert list(store.work.iterdir()) == []


def test_progress_of_reading_never_goes_back(store: Store) -> None:
    for n in range(3):
        store.write(f"log/{n}.csv", HEADER + "\n".join(ROWS))
    seen: list[tuple[float, float]] = []

    def keep(what: str, done: float, total: float, note: str = "") -> None:
        if what == "reading":
            seen.append((done, total))

    ingest_log(IngestConfig(log=str(store.folder / "log")), ImagesConfig(), store.raw, store.work, keep)
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


# ── attributes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_items_bring_titles_pictures_and_attributes(store: Store) -> None:
    log = store.write("a.csv", HEADER + "\n".join(ROWS))
    items = store.write(
        "meta/items.csv",
        "item_id,name,genres,image\ni1,One,a b,p/1.png\ni1,Again,,\n,nobody,,\ni4,,NA,/abs/4.png\nother,Other,x\n"
        "zzz,Z,,https://x/z.png\n",
    )
    users = store.write("users.tsv", "uid\tage\nu1\t007\n")
    ingested = store.run(log, items=items, users=users)
    assert ingested.item_attributes is not None
    assert ingested.item_attributes.rows(named=True) == [
        {"item_id": "i1", "title": "One", "image_path": str(store.folder / "meta/p/1.png"), "genres": "a b"},
        {"item_id": "i4", "title": None, "image_path": None, "genres": "NA"},
        {"item_id": "zzz", "title": "Z", "image_path": "https://x/z.png", "genres": None},
    ]
    assert ingested.user_attributes is not None
    assert ingested.user_attributes.rows() == [("u1", "007")]
    assert ingested.report.items == {
        "n_lines": 6,
        "n_repeated": 1,
        "n_refused": 2,
        "n_missing": ingested.report.n_items - 2,
        "n_outside": 1,
        "columns": {"item_id": "item_id", "title": "name", "image_path": "image"},
    }
    root = store.run(log, items=items, images={"root": "/pictures", "column": "image"})
    assert root.item_attributes is not None
    assert root.item_attributes["image_path"][0] == "/pictures/p/1.png"


def test_paths_of_pictures_that_lead_out_of_their_root_are_counted_and_left_out(store: Store) -> None:
    log = store.write("a.csv", HEADER + "\n".join(ROWS))
    root = store.folder / "root"
    (root / "in").mkdir(parents=True)
    (store.folder / "far").mkdir()
    for path in (root / "a.png", root / "in/b.png", store.folder / "far/c.png"):
        path.write_bytes(b"x")
    (root / "link.png").symlink_to(store.folder / "far/c.png")
    (root / "far").symlink_to(store.folder / "far")
    (root / "near.png").symlink_to(root / "in/b.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    inside = ["a.png", "in/b.png", "in/../a.png", "near.png", str(root / "a.png"), "none.png", "y" * 5000]
    outside = ["../far/c.png", "link.png", "far/c.png", "in/../../far/c.png", "/etc/hostname", "..", "in/../..", "a\0b"]
    lines = [{"item_id": f"p{n}", "image_path": path} for n, path in enumerate(inside + outside)]
    items = store.folder / "items.parquet"
    pl.DataFrame(lines).write_parquet(items)
    for linked in (root, store.folder / "linked root"):
        if linked != root:
            linked.symlink_to(root)
        ingested = store.run(log, items=str(items), images={"root": str(linked)})
        assert ingested.item_attributes is not None
        kept = ingested.item_attributes["image_path"].to_list()
        assert [path is not None for path in kept] == [True] * len(inside) + [False] * len(outside)
        assert ingested.report.items is not None
        assert ingested.report.items["n_outside"] == len(outside)
        assert any(f"{len(outside)} paths of pictures lead out" in note for note in ingested.report.notes)


def test_items_in_json_and_parquet_come_out_as_strings(store: Store) -> None:
    log = store.write("a.csv", HEADER + "\n".join(ROWS))
    items = store.write("items.jsonl", '{"id": "i1", "tags": ["a", "b"], "n": 1}\n{"id": "i4", "tags": [], "n": 2}\n')
    found = store.run(log, items=items).item_attributes
    assert found is not None
    assert found.rows() == [("i1", "a, b", "1"), ("i4", None, "2")]
    frame = pl.DataFrame({"sku": ["i1"], "title": ["T"], "name": ["N"], "price": [1.5], "item_id": [None]})
    frame = frame.cast({"item_id": pl.String})
    frame.drop("item_id").write_parquet(store.folder / "items.parquet")
    found = store.run(log, items=str(store.folder / "items.parquet")).item_attributes
    assert found is not None
    assert found.rows(named=True) == [{"item_id": "i1", "title": "T", "name": "N", "price": "1.5"}]


# ── databases, real data ─────────────────────────────────────────────────────────────────────────────────


def test_a_log_that_serves_as_a_test_may_be_small(store: Store) -> None:
    log = store.write("test.txt", "1 a\n")
    found = ingest_log(IngestConfig(log=log), ImagesConfig(), store.raw, store.work, check_enough=False)
    assert list_events(found.interactions) == [("1", "a", 0, 1.0)]
    none = IngestConfig(log=store.write("test.txt", "1\n"), format="lines")
    with pytest.raises(LogError, match="none of the 1 rows"):
        ingest_log(none, ImagesConfig(), store.raw, store.work, check_enough=False)


def test_a_real_postgresql_is_streamed_with_types(store: Store, postgres: str) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(postgres)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create table log as select mod(n, 50)::numeric as user_id, 'i' || mod(n, 17) as item_id, timestamptz "
            "'2024-01-01 00:00:00.25+02' + n * interval '1 minute' as created_at from generate_series(1, 5000) n"
        )
    engine.dispose()
    ingested = store.run(postgres, query="select * from log order by created_at", batch_rows=700)
    assert (ingested.report.n_kept, ingested.report.n_users, ingested.report.n_items) == (5000, 50, 17)
    assert ingested.report.first_time == "2023-12-31T22:01:00.250000Z"
    assert ingested.interactions.users.get_id(0) == "0"
    again = store.run(postgres, query="select * from log where item_id not like 'i0%' order by created_at")
    assert again.report.n_read < 5000, "rows of a database replace those read before"
    for query, message in (("select * from nothing", "failed"), ("create table x (a int)", "failed|returns no rows")):
        with pytest.raises(LogError, match=message):
            store.run(postgres, query=query)


def test_databases_that_cannot_be_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    nowhere = "postgresql+psycopg://me:${SECRET}@127.0.0.1:1/x"
    cases: list[tuple[str, str, type[Exception], str]] = [
        ("oracle9://x/y", "select 1", LogError, "no driver"),
        ("sqlite:////no/such/folder/x.db", "select 1", LogError, "cannot connect"),
        ("sqlite://", "", ConfigError, "ingest.query"),
        ("sqlite://", "selec", LogError, "failed"),
        ("postgresql+psycopg://me:***@127.0.0.1/x", "select 1", ConfigError, "not kept with a run"),
        ("sqlite://", "select 1 as a", LogError, "looks like the user"),
        ("mysql+nothing://me:${UNSET_NAME}@x/y", "select 1", ConfigError, "UNSET_NAME"),
        (nowhere, "select 1", LogError, "cannot connect"),
        ("mysql+pymysql://me:hunter2@127.0.0.1:1/x", "select 1", LogError, "pymysql|cannot connect"),
    ]
    for url, query, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            store.run(url, query=query)
        assert "hunter2" not in str(caught.value)
    assert not (store.folder / "store").exists()


def test_movielens_is_read_whole(store: Store, request: pytest.FixtureRequest) -> None:
    import os

    folder = Path(os.environ.get("RECSYS_CL_DATA", request.config.rootpath / "../shared/data")) / "ml-100k"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set RECSYS_CL_DATA")
    files = {"items": str(folder / "ml-100k.item"), "users": str(folder / "ml-100k.user")}
    report = store.run(str(folder / "ml-100k.inter"), **files).report
    assert (report.n_users, report.n_items, report.n_events, report.refused) == (943, 1682, 100_000, {})
    assert report.items is not None
    assert report.items["n_missing"] == 0
    assert report.items["columns"]["title"] == "movie_title:token_seq"


def test_a_database_that_does_not_answer_tells_no_secret() -> None:
    # The driver repeats what it does not know.
    nowhere = "postgresql+psycopg://127.0.0.1:1/x?sslmode=hunter2"
    encoded = nowhere.replace("127", "me:hunter%32@127")
    for url in (f"{nowhere}&password=hunter2", encoded, f"{nowhere}&password=h%75nter2"):
        with pytest.raises(UnreachableError, match="cannot connect") as caught, open_query(url, "select 1"):
            pass
        assert '"hunter2"' not in str(caught.value)


def test_a_file_whose_name_is_not_utf8_is_named(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / os.fsdecode(b"log\xe9.csv")).write_text("user_id,item_id\na,b\n")
    for log in (str(folder), f"{folder}/*"):
        with pytest.raises(LogError, match=r"log\\xe9\.csv is not valid UTF-8; rename"):
            store.run(log)


def test_what_a_killed_process_left_in_the_cache_goes_with_the_next_ingest(store: Store) -> None:
    log = store.write("a.csv", HEADER + "\n".join(ROWS))
    left = store.raw / f"{TEMPORARY}left"
    left.mkdir(parents=True)
    os.utime(left, (1, 1))
    store.run(log)
    assert not left.exists()


def test_weights_whose_sum_would_not_be_a_number_are_refused(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "user_id,item_id,weight\n" + "".join(f"u{n % 3},i{n},{w}\n" for n, w in enumerate([1, 3e38, 1e9] * 4))
    )
    found = store.run(str(log))
    assert found.report.refused == {"bad_weight": 4}
    assert found.interactions.weights.max() == 1e9
