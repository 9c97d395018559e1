"""Receipts name nobody, and a key that is damaged is not replaced; what is due ends with a run ingested later."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_cl.errors import StoreError
from recsys_cl.publishing.receipts import (
    Receipt,
    clear_due,
    find_receipt,
    hash_user,
    make_key,
    mark_due,
    read_due,
    read_key,
    read_pending,
    write_pending,
    write_receipt,
)

TIMES = [f"2026-01-0{day}T00:00:00.000000+00:00" for day in range(1, 5)]


def test_a_user_is_found_by_the_stores_own_key_alone(tmp_path: Path) -> None:
    keys = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert read_key(tmp_path / name) is None
        keys.append(make_key(tmp_path / name))
        assert read_key(tmp_path / name) == keys[-1]
    hashes = [hash_user(key, "ünï") for key in keys]
    assert hashes[0] != hashes[1]
    assert len({len(one) for one in hashes} | {64}) == 1
    path = write_receipt(tmp_path / "one", Receipt(TIMES[0], [hashes[0]]))
    assert find_receipt(tmp_path / "one", hashes[0]) == path
    assert find_receipt(tmp_path / "one", hashes[1]) is None
    (tmp_path / "one" / "erasures" / "key").write_text("00")
    with pytest.raises(StoreError, match="is not a key"):
        read_key(tmp_path / "one")


def test_what_was_begun_and_what_finished_it_are_one_receipt(tmp_path: Path) -> None:
    begun = Receipt(TIMES[0], ["a"], {"r": "s"}, ["run"], exports=["e"], retraining=True)
    (tmp_path / "erasures").mkdir()
    write_pending(tmp_path, begun)
    assert read_pending(tmp_path) == begun
    joined = Receipt(TIMES[1], ["a", "b"], {"t": "u"}, ["other"], sources=["s"]).join(read_pending(tmp_path))
    assert joined.time == TIMES[0]
    assert joined.releases == {"r": "s", "t": "u"}
    assert (joined.users, joined.runs, joined.sources, joined.exports) == (["a", "b"], ["other", "run"], ["s"], ["e"])
    assert joined.retraining
    write_receipt(tmp_path, joined)
    assert read_pending(tmp_path) is None
    (tmp_path / "erasures" / "pending.json").write_text("[1]")
    with pytest.raises(StoreError, match="is not a receipt"):
        read_pending(tmp_path)


def test_retraining_is_due_until_a_run_was_ingested_after_every_erasure(tmp_path: Path) -> None:
    clear_due(tmp_path, TIMES[0])
    assert read_due(tmp_path) == []
    for time in (TIMES[0], TIMES[2], TIMES[2]):
        mark_due(tmp_path, time)
    assert read_due(tmp_path) == [TIMES[0], TIMES[2]]
    for time in TIMES[:3]:
        clear_due(tmp_path, time)
        assert read_due(tmp_path) == [TIMES[0], TIMES[2]]
    clear_due(tmp_path, TIMES[3])
    assert read_due(tmp_path) == []
