"""`recsys-cl profile` tells of a log what its rows say, compares it with what it is asked to, and leaves nothing."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from recsys_cl.config import Config, apply_settings
from recsys_cl.pipeline import Outcome
from recsys_cl.profile_page import render_profile
from recsys_cl.profile_summary import describe_profile, draw_bars
from recsys_cl.profiling import profile_log

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def fewer(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of a fifth of the events, with markup in the name of a kind."""
    path = tmp_path_factory.mktemp("fewer") / "<b>fewer.csv"
    log = pl.read_csv(tiny_config.ingest.log).head(300)
    kind = pl.when(pl.col("event") == "like").then(pl.lit("<script>\x1b[31m")).otherwise(pl.col("event"))
    log.with_columns(kind.alias("event")).write_csv(path)
    return path


def test_the_profile_of_a_log_is_that_of_a_run_over_it(tiny_config: Config, tiny_outcome: Outcome) -> None:
    found = profile_log(tiny_config)
    kept = tiny_outcome.run.folder / "profile.json"
    assert found.profile.dump() == json.loads(kept.read_text())["whole"]
    assert (found.bounds, found.runs, found.beside) == ([], [], None)
    assert "contract: nothing to compare with yet" in describe_profile(found)


def test_beside_another_log_and_beside_a_store_the_same_changes_are_found(
    tiny_config: Config, tiny_outcome: Outcome, fewer: Path
) -> None:
    config = apply_settings(tiny_config, [f"ingest.log={str(fewer)!r}"])
    by_log = profile_log(config, beside=tiny_config.ingest.log)
    by_store = profile_log(config, store=tiny_outcome.run.store)
    assert by_store.runs == [tiny_outcome.run.run_id]
    assert by_log.bounds == by_store.bounds
    assert any(change.startswith("events in the log: found 300") for change in by_log.changes)
    text = describe_profile(by_log)
    assert re.search(r"^events +300 +1,[45]\d\d$", text, re.MULTILINE)
    assert re.search(r"^events +300 .* CHANGED$", text, re.MULTILINE)
    assert "\x1b" not in text


def test_a_page_shows_both_logs_and_escapes_what_they_hold(tiny_config: Config, fewer: Path) -> None:
    config = apply_settings(tiny_config, [f"ingest.log={str(fewer)!r}"])
    page = render_profile(profile_log(config, beside=tiny_config.ingest.log))
    assert "<script" not in page
    assert "<b>fewer" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 4
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "CHANGED" in page


def test_a_log_without_times_has_a_page_and_a_text(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\na,x\na,y\nb,x\n")
    found = profile_log(apply_settings(Config(), [f"ingest.log={str(tmp_path / 'log.csv')!r}"]))
    assert "has no times" in render_profile(found)
    assert "hours of the day" not in describe_profile(found)


def test_bars_rise_with_their_shares_to_a_full_block() -> None:
    assert draw_bars([0.0, 0.5, 1.0]) == " ▄█"
    assert draw_bars([0.0, 0.0]) == "  "


def test_the_command_prints_writes_a_page_and_exits_as_the_contract_says(
    recsys: Command, tiny_config: Config, tiny_outcome: Outcome, fewer: Path, tmp_path: Path
) -> None:
    log, page = tiny_config.ingest.log, tmp_path / "profile.html"
    done = recsys("profile", fewer, "--beside", log, "--html", page, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "this log" in done.stdout
    assert page.read_text().startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["profile.html"]
    stopped = recsys("profile", fewer, "--store", tiny_outcome.run.store, "--json", "--set", "contract.on_change=stop")
    assert stopped.returncode == 1
    assert json.loads(stopped.stdout)["contract"]["changes"]
    both = recsys("profile", fewer, "--beside", log, "--store", tiny_outcome.run.store)
    assert both.returncode == 2
    assert "either --beside LOG or --store DIR" in both.stderr
    missing = recsys("profile", tmp_path / "none.csv")
    assert missing.returncode == 2
    assert "there is no log" in missing.stderr
