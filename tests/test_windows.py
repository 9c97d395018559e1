"""Windows: each is published once, oldest first; missed ones are filled, late files noticed, half-written ones left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cl import windows
from recsys_cl.config import Config, apply_settings, build_config, is_url
from recsys_cl.door import resume_or_start
from recsys_cl.errors import InputError, LogError, StoreError
from recsys_cl.interactions.sources import find_window, is_within
from recsys_cl.pipeline import Outcome, run_stage
from recsys_cl.resuming import mark_refused, was_refused
from recsys_cl.runs import Run, claim_run, create_run, open_run
from recsys_cl.windows import (
    Agenda,
    Done,
    Due,
    Window,
    bound,
    find_windows,
    lacks_export,
    plan,
    plan_windows,
    read_done,
    record_done,
    record_exported,
)

LONG_AGO = 1_700_000_000


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "log").mkdir()
    return build_config({"ingest": {"log": str(tmp_path / "log")}, "publishing": {"store": str(tmp_path / "store")}})


def write_day(config: Config, day: int, name: str = "part-0", n_users: int = 6, changed: int = LONG_AGO) -> Path:
    """Events of one day in a folder of its own."""
    path = Path(config.ingest.log) / f"dt=2026-11-{day:02}" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    stamp = int(datetime(2026, 11, day, tzinfo=UTC).timestamp())
    rows = [f"u{u},i{(u * 3 + n + day) % 9},{stamp + 60 * n}" for u in range(n_users) for n in range(4)]
    path.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    os.utime(path, (changed, changed))
    return path


def publish(config: Config, due: Due, release: str = "r1") -> Run:
    """A run that has read its log, as far as windows know of it."""
    run = create_run(Path(config.publishing.store), bound(config, due))
    if not is_url(config.ingest.log):
        run_stage(run, "ingest")
    record_done(run, due, release)
    return run


def list_due(agenda: Agenda) -> list[tuple[str, tuple[str, ...]]]:
    return [(due.window, due.late) for due in agenda.due]


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("dt=2026-11-26/part-0.parquet", "2026-11-26"),
        ("2026/11/26/hour=03/a.csv", "2026-11-26T03"),
        ("events_20261126.csv", "2026-11-26"),
        ("20261126T23.csv", "2026-11-26T23"),
        ("20261126T24.csv", "2026-11-26"),
        ("1_2026-13-45_2026-11-26.csv", "2026-11-26"),
        ("20261345.csv", None),
        ("120261126.csv", None),
        ("events.csv", None),
    ],
)
def test_the_day_or_hour_in_a_name_is_found(name: str, window: str | None) -> None:
    assert find_window(name) == window


@given(st.text())
def test_any_name_has_a_window_or_none_and_belongs_to_the_last_one(name: str) -> None:
    found = find_window(name)
    assert is_within(name, found or "9999-12-31")
    assert found is None or not is_within(name, "0001-01-01")


def test_the_first_time_the_newest_window_alone_is_due_for_a_run_reads_all_before_it(config: Config) -> None:
    for day in (1, 2, 3):
        write_day(config, day)
    assert list_due(plan(config)) == [("2026-11-03", ())]


def test_the_same_window_with_the_same_settings_is_done_once_and_another_setting_begins_anew(config: Config) -> None:
    write_day(config, 1)
    run = publish(config, Due("2026-11-01"))
    agenda = plan(config)
    assert agenda.due == []
    assert agenda.describe() == [
        f"nothing to do: what there is was published with these settings as r1, by run {run.run_id}"
    ]
    assert list_due(plan(apply_settings(config, ["training.seed=5"]))) == [("2026-11-01", ())]


def test_missed_windows_are_filled_oldest_first(config: Config) -> None:
    write_day(config, 1)
    publish(config, Due("2026-11-01"))
    for day in (4, 2, 3):
        write_day(config, day)
    assert list_due(plan(config)) == [("2026-11-02", ()), ("2026-11-03", ()), ("2026-11-04", ())]
    publish(config, Due("2026-11-02"))
    assert [due.window for due in plan(config).due] == ["2026-11-03", "2026-11-04"]


def test_late_and_changed_files_are_picked_up_once_with_their_windows_named(config: Config) -> None:
    for day in (1, 2, 3):
        write_day(config, day)
    publish(config, Due("2026-11-03"))
    assert plan(config).due == []
    write_day(config, 1, "part-1")
    write_day(config, 2, n_users=9)
    (due,) = plan(config).due
    assert due == Due("2026-11-03", ("2026-11-01", "2026-11-02"))
    assert "late files of 2026-11-01, 2026-11-02" in plan(config).describe()[0]
    publish(config, due)
    assert plan(config).due == []
    write_day(config, 1, "part-2")
    write_day(config, 4)  # the next window takes them along
    assert list_due(plan(config)) == [("2026-11-04", ("2026-11-01",))]


@pytest.mark.parametrize("when", ["before the first row", "after ingest"])
def test_a_file_that_its_run_did_not_open_so_is_late_however_old_it_looks(config: Config, when: str) -> None:
    write_day(config, 1)
    due = Due("2026-11-01")
    run = create_run(Path(config.publishing.store), bound(config, due))

    def copy(*told: object) -> None:
        """As `cp -p` does."""
        write_day(config, 1, "part-1")
        write_day(config, 1, n_users=8, changed=LONG_AGO - 5)

    if when == "before the first row":
        run_stage(run, "ingest", progress=copy)
    else:
        run_stage(run, "ingest")
        copy()
    record_done(run, due, "r1")
    (late,) = plan(config).due
    assert late == Due("2026-11-01", ("2026-11-01",))
    assert publish(config, late).read_result("ingest")["n_read"] == 24 + 32
    assert plan(config).due == []


def test_a_window_that_is_being_written_is_left_until_it_is_quiet_or_marked(config: Config) -> None:
    write_day(config, 1)
    now = LONG_AGO + 1000.0
    path = write_day(config, 2, changed=int(now) - 60)
    later = now + 60 * config.schedule.quiet_minutes
    assert (plan(config, now).writing, list_due(plan(config, now))) == (["2026-11-02"], [("2026-11-01", ())])
    assert list_due(plan(config, later)) == [("2026-11-02", ())]
    (path.parent / "_SUCCESS").touch()
    assert list_due(plan(config, now)) == [("2026-11-02", ())]


def test_waiting_ends_when_the_window_is_whole_or_the_time_is_over(config: Config) -> None:
    path = write_day(config, 2)
    os.utime(path)
    told: list[str] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        (path.parent / "_SUCCESS").touch()

    assert list_due(windows.await_windows(config, told.append, sleep)) == [("2026-11-02", ())]
    assert (len(slept), told) == (1, ["waiting for 2026-11-02"])
    (path.parent / "_SUCCESS").unlink()
    hurried = apply_settings(config, ["schedule.wait_minutes=0"])
    assert windows.await_windows(hurried, told.append, sleep).due == []
    assert len(slept) == 1


def test_a_log_without_dates_is_one_window_that_is_due_when_it_changes(config: Config, tmp_path: Path) -> None:
    path = Path(config.ingest.log) / "events.csv"
    path.write_text("user_id,item_id\nu,i\nu,j\nv,i\n")
    os.utime(path, (LONG_AGO, LONG_AGO))
    (due,) = plan(config).due
    assert (due, bound(config, due).ingest.window) == (Due("all"), "")
    publish(config, due)
    assert plan(config).due == []
    path.write_text("user_id,item_id\nu,i\nu,j\nv,i\nv,j\n")
    os.utime(path, (LONG_AGO + 1, LONG_AGO + 1))
    assert list_due(plan(config)) == [("all", ())]
    publish(config, due)
    write_day(config, 1)  # days from now on
    write_day(config, 2)
    assert list_due(plan(config)) == [("2026-11-02", ())]


def test_files_without_a_date_beside_those_of_days_leave_the_days_as_they_are(config: Config) -> None:
    for day in (1, 2):
        write_day(config, day)
    path = Path(config.ingest.log) / "before.csv"
    path.write_bytes(write_day(config, 1).read_bytes())
    os.utime(path, (LONG_AGO, LONG_AGO))
    publish(config, Due("2026-11-02"))
    assert plan(config).due == []
    for day in (4, 3):
        write_day(config, day)
    assert list_due(plan(config)) == [("2026-11-03", ()), ("2026-11-04", ())]
    publish(config, Due("2026-11-03"))
    publish(config, Due("2026-11-04"))
    assert plan(config).due == []
    os.utime(path, (LONG_AGO + 1, LONG_AGO + 1))
    assert list_due(plan(config)) == [("2026-11-04", ("undated",))]


def test_of_a_database_each_whole_day_since_the_last_is_due(tmp_path: Path) -> None:
    config = build_config({"ingest": {"log": "sqlite:///x"}, "publishing": {"store": str(tmp_path / "store")}})
    noon = datetime(2026, 11, 5, 12, tzinfo=UTC).timestamp()
    (due,) = plan(config, noon).due
    assert due == Due("2026-11-04")
    publish(config, Due("2026-11-01"))
    assert [due.window for due in plan(config, noon).due] == ["2026-11-02", "2026-11-03", "2026-11-04"]
    publish(config, Due("2026-11-04"))
    assert plan(config, noon).due == []


@given(
    st.lists(st.tuples(st.integers(1, 28), st.booleans()), unique_by=lambda w: w[0]),
    st.sets(st.integers(1, 28)),
    st.sets(st.sampled_from(["all", "undated"])),
    st.sampled_from(["", "whole", "being written"]),
)
def test_whatever_is_done_nothing_whole_is_forgotten_and_nothing_is_done_twice(
    found: list[tuple[int, bool]], done: set[int], done_beside: set[str], undated: str
) -> None:
    name = "2026-11-{:02}".format
    given_windows = [Window(name(day), {"f": (1, 1)}, writing) for day, writing in sorted(found)]
    if undated and given_windows:
        given_windows.append(Window("undated", {"f": (1, 1)}, undated == "being written"))
    days = {name(day) for day in done}
    known = {window: Done("run", "r", {"f": (1, 1)}) for window in days | done_beside}
    agenda = plan_windows(given_windows, known)
    due, last = [d.window for d in agenda.due], max(days, default="")
    whole = [w.name for w in given_windows if not w.writing and w.name != "undated"]
    assert due == sorted(set(due))
    assert not {"all", "undated"} & set(due)
    assert not {w.name for w in given_windows if w.writing} & set(due) - {last}
    if days:
        newer = {w for w in whole if w > last}
        assert newer <= set(due)
        late = {name for d in agenda.due for name in d.late}
        missed = {w for w in whole if w <= last and w not in known}
        missed |= {"undated"} if undated == "whole" and given_windows and not done_beside else set()
        assert late == missed
        assert set(due) == newer | ({last} if missed and not newer else set())
    else:
        assert due == whole[-1:]


def test_a_run_of_a_window_reads_no_file_and_no_cached_part_of_a_later_one(config: Config) -> None:
    for day in (1, 2, 3):
        write_day(config, day)
    for day, n_events in ((3, 72), (2, 48), (3, 72)):
        run = create_run(Path(config.publishing.store), bound(config, Due(f"2026-11-{day:02}")))
        run_stage(run, "ingest")
        assert run.read_result("ingest")["n_read"] == n_events
    early = create_run(Path(config.publishing.store), bound(config, Due("2026-10-01")))
    with pytest.raises(LogError, match=r"every file of .* is of a later window than 2026-10-01"):
        run_stage(early, "ingest")


@pytest.mark.parametrize(("window", "n_events"), [("2026-11-02", 48), ("2026-11-02T00", 26), ("", 72)])
def test_a_window_of_a_database_ends_with_its_day_or_hour(tmp_path: Path, window: str, n_events: int) -> None:
    config = build_config({"ingest": {"log": str(tmp_path), "window": window}})
    (tmp_path / "csv").mkdir()
    on_files = config.model_copy(update={"ingest": config.ingest.model_copy(update={"log": str(tmp_path / "csv")})})
    log = pl.concat([pl.read_csv(write_day(on_files, day)) for day in (1, 2, 3)])
    if "T" in window:  # a half of the second day lies after its first hour
        late = (pl.col("timestamp") >= datetime(2026, 11, 2, tzinfo=UTC).timestamp()) & (
            pl.int_range(pl.len()) % 12 > 0
        )
        log = log.with_columns(pl.when(late).then(pl.col("timestamp") + 3600).otherwise("timestamp"))
    url = f"sqlite:///{tmp_path / 'log.db'}"
    log.write_database("events", url, engine="sqlalchemy")
    ingest = {"log": url, "query": "select * from events", "window": window}
    run = create_run(tmp_path / "store", build_config({"ingest": ingest}))
    run_stage(run, "ingest")
    assert run.read_result("ingest")["n_kept"] == n_events


def test_an_unfinished_run_of_the_same_settings_is_gone_on_with(config: Config) -> None:
    write_day(config, 1)
    wanted = bound(config, Due("2026-11-01"))
    with resume_or_start(wanted) as first:
        run_stage(first, "ingest")
    with resume_or_start(wanted) as second:
        assert (second.run_id, second.is_done("ingest")) == (first.run_id, True)
    with resume_or_start(apply_settings(wanted, ["training.seed=5"])) as other:
        assert other.run_id != first.run_id
    with resume_or_start(wanted) as third:
        assert third.run_id == first.run_id  # whatever was begun since with other settings


@pytest.mark.parametrize("change", ["grown", "corrected", "another", "gone"])
def test_an_unfinished_run_makes_way_for_a_new_one_when_its_files_are_no_longer_as_it_has_read_them(
    config: Config, change: str
) -> None:
    write_day(config, 1, "part-1")
    path = write_day(config, 1)
    write_day(config, 2)
    wanted = bound(config, Due("2026-11-01"))
    with resume_or_start(wanted) as first:
        run_stage(first, "ingest")
    write_day(config, 2, "part-1")  # of a later window: it is not read
    with resume_or_start(wanted) as second:
        assert second.run_id == first.run_id
    if change == "gone":
        path.unlink()
    elif change == "another":
        write_day(config, 1, "part-2")
    else:
        write_day(config, 1, n_users=9 if change == "grown" else 6, changed=LONG_AGO + (change == "corrected"))
    with resume_or_start(wanted) as fresh:
        assert (fresh.run_id != first.run_id, fresh.read_stages()) == (True, {})
    with resume_or_start(wanted) as again:
        assert again.run_id == fresh.run_id  # which has read nothing yet


def test_a_run_that_somebody_works_on_is_left_to_them_even_where_its_files_have_changed(config: Config) -> None:
    write_day(config, 1)
    wanted = bound(config, Due("2026-11-01"))
    with resume_or_start(wanted) as left:
        run_stage(left, "ingest")
    write_day(config, 1, n_users=9)
    code = (
        "import sys; from pathlib import Path; from recsys_cl.runs import claim_run, open_run\n"
        "with claim_run(open_run(Path(sys.argv[1]))): print('claimed', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(left.store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "claimed\n"
        with pytest.raises(StoreError, match=f"process {child.pid} is working on run"), resume_or_start(wanted):
            pass
        child.kill()
    assert len(list((left.store / "runs").iterdir())) == 1


def test_what_was_refused_is_known_as_refused_until_its_files_change(config: Config) -> None:
    write_day(config, 1)
    wanted = bound(config, Due("2026-11-01"))
    assert not was_refused(wanted)
    with resume_or_start(wanted) as run:
        run_stage(run, "ingest")
    assert not was_refused(wanted)
    mark_refused(run)
    assert was_refused(wanted)
    assert not was_refused(apply_settings(wanted, ["training.seed=5"]))
    write_day(config, 1, n_users=9)
    assert not was_refused(wanted)


def test_a_run_that_was_killed_after_publishing_is_found_while_it_is_live_and_holds_the_log(
    tiny_outcome: Outcome, tmp_path: Path
) -> None:
    store = shutil.copytree(tiny_outcome.run.store, tmp_path / "s")
    config = apply_settings(tiny_outcome.run.config, [f'publishing.store="{store}"'])
    with resume_or_start(config) as run:
        assert (run.run_id, run.is_done("publish")) == (tiny_outcome.run.run_id, True)
    log = shutil.copy(config.ingest.log, tmp_path / "events.csv")
    left = create_run(store, apply_settings(config, [f'ingest.log="{log}"']))
    for stage in left.stages:
        run_stage(left, stage, force="a test")
    with resume_or_start(left.config) as run:
        assert run.run_id == left.run_id
    with resume_or_start(config) as run:
        assert run.run_id not in (left.run_id, tiny_outcome.run.run_id)  # that one is not live any more
    os.utime(log, (LONG_AGO, LONG_AGO))
    with resume_or_start(left.config) as run:
        assert run.run_id != left.run_id


RECORDING = """
import sys
from pathlib import Path
from recsys_cl.runs import open_run
from recsys_cl.windows import Due, record_done, record_exported

store, run_id, kind = sys.argv[1:]
run = open_run(Path(store), run_id)
for number in range(1, 26):
    window = f"{kind}-{number:02}"
    record_done(run, Due(window), window)
    record_exported(run.store, window, "neighbors")
"""


def test_two_processes_that_record_at_once_lose_nothing(config: Config) -> None:
    write_day(config, 1)
    run = publish(config, Due("2026-11-01"))
    commands = [[sys.executable, "-c", RECORDING, str(run.store), run.run_id, kind] for kind in ("2027-01", "2027-02")]
    children = [subprocess.Popen(command) for command in commands]
    assert [child.wait(240) for child in children] == [0, 0]
    done = read_done(run.store, config)
    assert sorted(set(done) - {"2026-11-01"}) == [f"2027-0{m}-{n:02}" for m in (1, 2) for n in range(1, 26)]
    assert all("neighbors" in found.exported for name, found in done.items() if name != "2026-11-01")


def test_an_export_is_missing_until_it_was_made_of_the_live_release(tiny_outcome: Outcome, tmp_path: Path) -> None:
    store = shutil.copytree(tiny_outcome.run.store, tmp_path / "s")
    config = apply_settings(tiny_outcome.run.config, [f'publishing.store="{store}"'])
    assert not lacks_export(config, "neighbors")  # it was not published for a window
    record_done(Run(store, tiny_outcome.run.run_id, config), Due("all"), tiny_outcome.release)
    assert lacks_export(config, "neighbors")
    record_exported(store, "another", "neighbors")
    assert lacks_export(config, "neighbors")
    record_exported(store, tiny_outcome.release, "neighbors")
    assert not lacks_export(config, "neighbors")
    assert lacks_export(config, "recommendations")


def test_two_processes_do_not_work_on_one_run_and_a_killed_one_frees_it(config: Config) -> None:
    run = create_run(Path(config.publishing.store), config)
    code = (
        "import sys, time; from pathlib import Path; from recsys_cl.runs import claim_run, open_run\n"
        "with claim_run(open_run(Path(sys.argv[1]))): print('claimed', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run.store)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "claimed\n"
        with pytest.raises(StoreError, match=f"process {child.pid} is working on run"), claim_run(run):
            pass
        child.kill()
    with claim_run(run), claim_run(open_run(run.store)):  # nested, in one process
        pass


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{"])
def test_a_state_that_cannot_be_read_is_named(config: Config, text: str) -> None:
    write_day(config, 1)
    Path(config.publishing.store).mkdir()
    (Path(config.publishing.store) / "windows.json").write_text(text)
    with pytest.raises(StoreError, match=r"windows\.json cannot be read"):
        plan(config)


def test_a_log_that_is_not_there_is_named(config: Config) -> None:
    with pytest.raises(InputError, match="holds no files"):
        find_windows(config)
