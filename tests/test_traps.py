"""A log with a trap for each rule: what is planted is found, by name and number, in what a run tells."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import polars as pl
import pytest

START = datetime(2025, 1, 1, tzinfo=UTC)
CUT = START + timedelta(days=40)
N_USERS, N_ITEMS, EACH = 80, 60, 12
N_DUPLICATES, N_BOT_EVENTS, N_HEAVY, N_AFTER = 7, 300, 2, 3
Events = list[tuple[str, str, datetime]]


def draw_events() -> Events:
    """Ordinary users, one event a day or so, each in training and in the test."""
    rng = np.random.default_rng(0)
    events: Events = []
    for user in range(N_USERS):
        items = rng.permutation(N_ITEMS)[:EACH]
        days = np.sort(rng.choice(50, EACH, replace=False))
        days[-1] = 45  # in the test
        events += [
            (f"u{user:02d}", f"i{item:02d}", START + timedelta(days=int(day), seconds=user))
            for item, day in zip(items, days, strict=True)
        ]
    return events


def write(path: Path, events: Events) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        writer.writerows((user, item, int(time.timestamp())) for user, item, time in events)
    return path


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory, recsys: Callable[..., CompletedProcess[str]]) -> tuple[Path, str]:
    """A run over the log with all traps; its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("traps")
    events = draw_events()
    training = [event for event in events if event[2] < CUT]
    test = [event for event in events if event[2] >= CUT]
    training += training[:N_DUPLICATES]  # the same event twice
    training += [("bot", f"i{n % N_ITEMS:02d}", START + timedelta(seconds=n)) for n in range(N_BOT_EVENTS)]
    for heavy in range(N_HEAVY):  # nearly everything, two events a day
        training += [
            (f"heavy{heavy}", f"i{item:02d}", START + timedelta(hours=12 * item)) for item in range(N_ITEMS - 1)
        ]
    training += [(f"u{user:02d}", "i00", CUT + timedelta(days=2, hours=user)) for user in range(N_AFTER)]  # too late
    test += [(f"u{user:02d}", "only-in-the-test", CUT + timedelta(days=9)) for user in range(4)]
    done = recsys(
        *("run", "--log", write(folder / "training.csv", training), "--store", folder / "store"),
        *("--set", "split.by=file", f"split.test={write(folder / 'test.csv', test)}", f"split.cut={CUT.isoformat()}"),
        *("split.most_leaked_share=0.5", "ingest.most_events_per_day=100", "sampling.most_items_per_user=40"),
        *("training.epochs=2", "training.least_steps=0", "publishing.require_gain=false", "evaluation.n_resamples=100"),
    )
    assert done.returncode == 0, done.stderr
    return next((folder / "store" / "runs").iterdir()), done.stdout


def test_bots_and_duplicates_are_refused_and_counted(trapped: tuple[Path, str]) -> None:
    run, told = trapped
    refused = json.loads((run / "ingest.json").read_text())["refused"]
    assert refused == {"bot": N_BOT_EVENTS, "duplicate": N_DUPLICATES}
    assert f"refused, bot: {N_BOT_EVENTS}" in told
    assert f"refused, duplicate: {N_DUPLICATES}" in told
    assert pl.read_parquet(run / "refused.parquet").height == N_BOT_EVENTS + N_DUPLICATES


def test_events_after_the_cut_are_found(trapped: tuple[Path, str]) -> None:
    run, told = trapped
    assert json.loads((run / "train.json").read_text())["audit"]["n_after_cut"] == N_AFTER
    assert f"leaks: after the cut {N_AFTER}" in told


def test_an_item_only_in_the_test_is_found(trapped: tuple[Path, str]) -> None:
    run, told = trapped
    audit = json.loads((run / "train.json").read_text())["audit"]
    assert (audit["n_test_items_unseen"], audit["n_test_events_unseen_items"]) == (1, 4)
    assert "only in the test 1 items (4 events)" in told


def test_heavy_users_are_found(trapped: tuple[Path, str]) -> None:
    run, told = trapped
    audit = json.loads((run / "train.json").read_text())["audit"]
    assert audit["n_users_heavy"] == N_HEAVY
    n_ordinary = sum(time < CUT for _, _, time in draw_events())
    shares = N_HEAVY * (N_ITEMS - 1) / (n_ordinary + N_AFTER + N_HEAVY * (N_ITEMS - 1))
    assert audit["heavy_share"] == pytest.approx(shares, abs=0.01)
    assert f"heavy users: {N_HEAVY} with more than 40 items" in told


def test_a_leak_beyond_what_is_allowed_stops_the_run(
    tmp_path: Path, recsys: Callable[..., CompletedProcess[str]]
) -> None:
    events = draw_events()
    late = [("u00", "i00", CUT + timedelta(days=1))]
    training = write(tmp_path / "training.csv", [event for event in events if event[2] < CUT] + late)
    test = write(tmp_path / "test.csv", [event for event in events if event[2] >= CUT])
    done = recsys(
        *("run", "--log", training, "--store", tmp_path / "store"),
        *("--set", "split.by=file", f"split.test={test}", f"split.cut={CUT.isoformat()}"),
    )
    assert done.returncode == 1
    assert "1 training events are at or after 2025-02-10" in done.stderr
