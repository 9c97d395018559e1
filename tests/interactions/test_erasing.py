"""Erasing: who was erased stands nowhere in what is left, everybody else is as before, and what there was is kept."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_cl.files import read_json
from recsys_cl.ids import IdMap
from recsys_cl.interactions import arrays, erasing
from recsys_cl.interactions.batches import Batch, make_refused
from recsys_cl.interactions.erasing import erase_part, hash_ingested, write_without
from recsys_cl.interactions.raw import parse_stream, read_ledger, write_ledger
from recsys_cl.interactions.table import Interactions

ERASED = ["u5", "ünï-erased", 'a,"b"-erased']
USERS = [*ERASED, "u50", "xu5", "U5", *(f"v{n}" for n in range(14))]
Event = tuple[str, str, int, float]


def draw_events(n: int = 300) -> list[Event]:
    """By user and time; each user has an item that nobody else has."""
    rng = np.random.default_rng(0)
    rows = [(USERS[u], f"i{i}", int(t), float(w + 1)) for u, i, t, w in rng.integers(0, (20, 30, 10**9, 8), (n, 4))]
    rows += [(user, name_own(user), 5, 1.0) for user in USERS]
    return sorted(rows, key=lambda row: (row[0], row[2]))


def build(events: list[Event], timed: bool = True) -> Interactions:
    users, items = IdMap.build(sorted({row[0] for row in events})), IdMap.build(sorted({row[1] for row in events}))
    sizes = [sum(row[0] == user for row in events) for user in users.to_series()]
    return Interactions(
        users,
        items,
        np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        np.array([items.find_row(row[1]) for row in events], dtype=np.int32),
        np.array([row[2] for row in events], dtype=np.int64),
        np.array([row[3] for row in events], dtype=np.float32),
        timed,
    )


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def name_own(user: str) -> str:
    """The item that only this user has touched."""
    return f"only of {user}"


def name_user(content: str) -> str:
    """Whom a refused row names: a JSON object, or a line that could not be split."""
    return str(json.loads(content)["who"] if content.startswith("{") else content.split(";")[0])


def find_named(folder: Path, ids: list[str]) -> set[str]:
    """Which of these ids stand in the bytes of a file, if long and in no other id, or as a value of a table."""
    others = {*USERS, *map(name_own, USERS)} - {*ids}
    unlike = [one for one in ids if len(one) > 5 and not any(one in other for other in others)]
    found = {one for one in unlike for data in read_all(folder).values() if one.encode() in data}
    values = [IdMap.read(path).to_series().to_list() for path in folder.rglob("*.arrow")]
    values += [pl.read_parquet(path)["user"].to_list() for path in folder.rglob("events.parquet")]
    values += [[*map(name_user, pl.read_parquet(path)["content"])] for path in folder.rglob("refused.parquet")]
    return found | {value for column in values for value in column} & {*ids}


@pytest.mark.parametrize("n", [1, 7, 10**6])
@pytest.mark.parametrize("gone", [ERASED, [USERS[-1]], ["unknown"], [*USERS[1:], "unknown"]])
def test_interactions_are_as_if_the_erased_had_never_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, gone: list[str]
) -> None:
    monkeypatch.setattr(erasing, "_BLOCK_EVENTS", n)
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", n)
    events = draw_events()
    build(events, timed=n != 7).write(tmp_path / "old")
    before = read_all(tmp_path)
    write_without(Interactions.read(tmp_path / "old"), pl.Series(gone), tmp_path / "new")
    found, expected = Interactions.read(tmp_path / "new"), build([row for row in events if row[0] not in gone])
    for name in ("offsets", "item_rows", "times", "weights"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), strict=True)
    for one, other in ((found.users, expected.users), (found.items, expected.items)):
        assert one.to_series().to_list() == other.to_series().to_list()
    assert found.timed == (n != 7)
    assert read_all(tmp_path / "old") == {name[4:]: data for name, data in before.items()}, "nothing else is touched"
    named = [*gone, *map(name_own, gone)]
    assert find_named(tmp_path / "old", named) == {*named} & {*USERS, *map(name_own, USERS)}
    assert find_named(tmp_path / "new", named) == set()


def put_part(raw: Path) -> Path:
    """A source with events and refused rows of all kinds, in the raw cache."""
    users = pl.Series("who", [row[0] for row in draw_events()])
    rows = pl.DataFrame({"who": users, "what": "i1", "when": np.arange(len(users)) + 1_700_000_000})
    without = (pl.int_range(pl.len()) % 5 == 0) & ~pl.col("who").is_in(["v1", "v2"])
    rows = rows.with_columns(when=pl.when(without).then(None).otherwise("when"))
    broken = make_refused([(n + 9000, "ragged_row", f"{user};i1;x") for n, user in enumerate(["u5", "u50", "v3"])])
    batch = Batch(rows, pl.Series(range(rows.height), dtype=pl.Int64), broken)
    part = parse_stream("log", iter([batch]), {"user": "who", "item": "what", "time": "when"}, "s", raw)
    write_ledger(raw, [part])
    return raw / part.key


@pytest.mark.parametrize("gone", [ERASED, ["u50"], ["unknown"], USERS])
def test_a_source_keeps_the_rows_of_all_others_and_counts_them(tmp_path: Path, gone: list[str]) -> None:
    old, new = put_part(tmp_path / "raw"), tmp_path / "new"
    before = read_all(tmp_path / "raw")
    erase_part(old, ("other", "who"), pl.Series(gone), new)
    assert read_all(tmp_path / "raw") == before
    events, refused = (pl.read_parquet(old / f"{name}.parquet") for name in ("events", "refused"))
    named = pl.Series([name_user(content) for content in refused["content"]], dtype=pl.String)
    events, refused = events.filter(~pl.col("user").is_in(gone)), refused.filter(~named.is_in(gone))
    assert pl.read_parquet(new / "events.parquet").equals(events)
    assert pl.read_parquet(new / "refused.parquet").equals(refused)
    summary = read_json(new / "summary.json")
    assert summary["refused"] == dict(refused.group_by("reason").len().iter_rows())
    assert summary["n_rows"] == events.height + refused.height
    assert find_named(old, gone) == {*gone} & {*USERS}
    assert find_named(new, gone) == set()


def test_what_was_erased_is_told_from_what_was_read_and_erasing_again_changes_nothing(tmp_path: Path) -> None:
    old = put_part(tmp_path / "raw")
    contents = {read_ledger(old.parent)[0].content}
    for place, user in ((tmp_path / user, user) for user in ("u50", "v1", "v2")):
        (place / "raw").mkdir(parents=True)
        erase_part(old, ("who",), pl.Series([user]), place / "raw" / old.name)
        erase_part(place / "raw" / old.name, ("who",), pl.Series([user]), place / "again")
        assert read_all(place / "raw" / old.name) == read_all(place / "again")
        shutil.copy(old.parent / "sources.json", place / "raw")
        contents.add(read_ledger(place / "raw")[0].content)
    assert len(contents) == 4


def test_a_fingerprint_is_of_names_and_bytes_and_of_nothing_else(tmp_path: Path) -> None:
    for name, text in (("1", "one"), ("2", "two"), ("3", "one"), ("4", "")):
        (tmp_path / name).write_text(text)
    path = tmp_path.joinpath
    first = hash_ingested({"a": path("1"), "b": path("2")})
    assert hash_ingested({"b": path("2"), "a": path("3")}) == first
    others = {"a": path("2"), "b": path("1")}, {"a": path("1"), "c": path("2")}, {"a": path("1")}, {"a": path("4")}
    assert len({first, *map(hash_ingested, others)}) == 5


def test_killed_while_it_writes_or_between_exchanges_each_is_old_or_new_and_whole(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; import polars as pl\n"
        "from recsys_cl.files import Swaps; from recsys_cl.interactions.table import Interactions\n"
        "from recsys_cl.interactions.erasing import erase_part, write_without\n"
        "part, log, n, seen = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), [0]\n"
        "def die(event, args):\n"
        "    writes = event == 'open' and 'offsets.npy' in str(args[0]) and 'w' in str(args[1])\n"
        "    counts = writes or event == 'ctypes.dlopen'  # which comes before an exchange\n"
        "    seen[0] += counts\n"
        "    if counts and seen[0] == n: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with Swaps() as swaps:\n"
        "    targets, ids = (swaps.replace(part), swaps.replace(log)), pl.Series(sys.argv[4:])\n"
        "    sys.addaudithook(die)\n"
        "    erase_part(part, ('who',), ids, targets[0])\n"
        "    write_without(Interactions.read(log), ids, targets[1])\n"
        "    swaps.apply()\n"
    )
    states: list[list[dict[str, bytes]]] = []
    for n in (-1, 1, 2, 3):
        part, log = put_part(tmp_path / str(n) / "raw"), tmp_path / str(n) / "log"
        build(draw_events()).write(log)
        old = [read_all(part), read_all(log)]
        command = [sys.executable, "-c", code, str(part), str(log), str(n), *ERASED]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == (0 if n < 0 else -signal.SIGKILL), done.stderr
        states.append([read_all(part), read_all(log)])
    new = states[0]
    assert states[1:] == [old, old, [new[0], old[1]]]
    assert find_named(tmp_path / "-1", ERASED) == set()
    assert find_named(tmp_path / "3", ERASED) == {*ERASED}
