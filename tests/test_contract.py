"""The data contract speaks where a figure is past its bound and nowhere else; a stop changes nothing but the run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recsys_cl.config import Config, ContractConfig, apply_settings
from recsys_cl.contract import compare, read_trailing
from recsys_cl.errors import RefusedError, StoreError
from recsys_cl.files import read_json
from recsys_cl.interactions.profile import Profile, Times
from recsys_cl.pipeline import Outcome, run_stage
from recsys_cl.runs import Run, create_run, open_run
from recsys_cl.summary import describe_stage

USUAL = Profile(
    n_read=1000,
    n_events=1000,
    n_users=100,
    n_items=50,
    refused={},
    kinds={"view": 800, "like": 200},
    new_users=0.1,
    new_items=0.1,
    popularity={"gini": 0.5, "top_1": 0.2, "top_5": 0.3, "top_20": 0.5},
    per_user={},
    per_item={},
    times=Times("", "", 30, 1, 10, [1 / 24] * 24, {}),
)
NIGHT = [1 / 24 - 0.01] * 12 + [1 / 24 + 0.01] * 12


def vary(**figures: Any) -> Profile:
    times = replace(USUAL.times, **figures.pop("times"))  # type: ignore[type-var]
    return replace(USUAL, times=times, **figures)


def find_changes(found: Profile, before: list[Profile], **settings: Any) -> list[str]:
    bounds = compare({"whole": found}, [{"whole": p} for p in before], ContractConfig(**settings))
    return [bound.figure for bound in bounds if bound.crossed]


@pytest.mark.parametrize(
    ("figure", "setting", "just", "beyond"),
    [
        ("events", {"most_volume_fall": 0.4}, {"n_events": 600}, {"n_events": 599}),
        ("events", {"most_volume_rise": 0.4}, {"n_events": 1400}, {"n_events": 1401}),
        ("users", {"most_users_fall": 0.4}, {"n_users": 60}, {"n_users": 59}),
        ("items", {"most_items_fall": 0.4}, {"n_items": 30}, {"n_items": 29}),
        ("share refused", {"most_refused_rise": 0.25}, {"refused": {"x": 250}}, {"refused": {"x": 251}}),
        ("share of new users", {"most_new_users_rise": 0.4}, {"new_users": 0.49}, {"new_users": 0.51}),
        ("share of new items", {"most_new_items_rise": 0.4}, {"new_items": 0.49}, {"new_items": 0.51}),
        (
            "share of the top 1 % of items",
            {"most_top_change": 0.1},
            {"popularity": {"top_1": 0.29}},
            {"popularity": {"top_1": 0.31}},
        ),
        (
            "share of the top 1 % of items",
            {"most_top_change": 0.1},
            {"popularity": {"top_1": 0.11}},
            {"popularity": {"top_1": 0.09}},
        ),
        (
            "share in unusual hours of the day",
            {"most_hours_change": 0.1},
            {"times": {"hours": [1 / 24 - 0.008] * 12 + [1 / 24 + 0.008] * 12}},
            {"times": {"hours": NIGHT}},
        ),
        (
            "days without events",
            {"most_silent_days_rise": 2},
            {"times": {"n_silent_days": 3}},
            {"times": {"n_silent_days": 4}},
        ),
    ],
)
def test_each_figure_fires_past_its_bound_and_not_at_it(
    figure: str, setting: dict[str, Any], just: dict[str, Any], beyond: dict[str, Any]
) -> None:
    for figures, changes in ((just, []), (beyond, [figure])):
        found = vary(**({"times": {}} | figures))
        found = replace(found, n_read=1000)
        assert find_changes(found, [USUAL], **setting) == changes


def test_a_kind_that_comes_or_goes_fires() -> None:
    new = replace(USUAL, kinds={"view": 700, "play": 300})
    assert find_changes(new, [USUAL], most_kind_change=0.15) == ["share of kind 'like'", "share of kind 'play'"]
    assert find_changes(new, [USUAL], most_kind_change=0.35) == []


def test_a_first_run_and_one_that_is_off_are_compared_with_nothing() -> None:
    assert compare({"whole": USUAL}, [], ContractConfig()) == []
    empty = replace(USUAL, n_events=1)
    assert compare({"whole": empty}, [{"whole": USUAL}], ContractConfig(on_change="off")) == []
    assert compare({"arrived": empty}, [{"whole": USUAL}], ContractConfig()) == []


def test_the_median_of_the_trailing_runs_counts_and_their_spread_widens_the_bound() -> None:
    sizes = [1000, 100, 1000, 1000, 5000]
    before = [replace(USUAL, n_events=size) for size in sizes]
    (bound, *_) = compare({"whole": USUAL}, [{"whole": p} for p in before], ContractConfig())
    assert (bound.median, bound.spread, bound.low, bound.high) == (1000, 0, 500, 3000)
    spread = [replace(USUAL, n_events=size) for size in (800, 600, 1000, 1200, 1400)]  # median deviation 200
    (bound, *_) = compare({"whole": USUAL}, [{"whole": p} for p in spread], ContractConfig())
    assert bound.low == pytest.approx(1000 - 3 * 1.4826 * 200)
    (bound, *_) = compare({"whole": USUAL}, [{"whole": p} for p in spread], ContractConfig(spreads=0))
    assert bound.low == 500
    (bound, *_) = compare({"whole": USUAL}, [{"whole": p} for p in spread[:4]], ContractConfig())
    assert (bound.spread, bound.low) == (0, 450)


def test_a_second_run_whose_ids_are_nearly_all_new_fires_though_the_first_could_not_tell() -> None:
    first = replace(USUAL, new_users=None, new_items=None)
    assert find_changes(replace(USUAL, new_users=0.7), [first]) == []
    assert find_changes(replace(USUAL, new_users=0.9), [first]) == ["share of new users"]


@pytest.fixture(scope="module")
def before(tiny_outcome: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A copy of the tiny store, to be changed by one test after the other."""
    store = tmp_path_factory.mktemp("contract") / "store"
    shutil.copytree(tiny_outcome.run.store, store)
    return Outcome(open_run(store, tiny_outcome.run.run_id), tiny_outcome.release)


def start_shrunk(before: Outcome, config: Config, folder: Path) -> Run:
    """A run over a fifth of the events, in a file of its own name, without those that were read before."""
    log = folder / "fewer.csv"
    pl.read_csv(config.ingest.log).head(300).write_csv(log)
    settings = [f"ingest.log={str(log)!r}", "ingest.incremental=false", "contract.most_items_fall=0.0"]
    settings += ["contract.most_users_fall=0.0", "contract.most_top_change=0.0"]
    return create_run(before.run.store, apply_settings(config, settings))


def test_a_run_over_the_same_log_has_nothing_to_say(before: Outcome, tiny_config: Config) -> None:
    run = create_run(before.run.store, tiny_config)
    run_stage(run, "ingest")
    found = read_json(run.folder / "profile.json")
    assert found["contract"]["runs"] == [before.run.run_id]
    assert found["contract"]["bounds"]
    assert found["contract"]["changes"] == []
    assert (found["whole"]["new_users"], found["whole"]["n_events"]) == (0.0, run.read_result("ingest")["n_events"])


def test_a_warning_is_in_the_summary_and_the_report_and_the_profile(
    before: Outcome, tiny_config: Config, tmp_path: Path
) -> None:
    run = start_shrunk(before, tiny_config, tmp_path)
    run_stage(run, "ingest")
    (change,) = (c for c in read_json(run.folder / "profile.json")["contract"]["changes"] if c.startswith("events"))
    assert change.startswith("events in the log: found 300, trailing median 1,5")
    assert "expected at least 75" in change
    assert f"data contract: {change}" in run.read_result("ingest")["notes"]
    assert f"data contract: {change}" in describe_stage(run, "ingest")


def test_a_stop_leaves_what_is_live_and_what_is_read_and_tells_every_reason(
    before: Outcome, tiny_config: Config, tmp_path: Path
) -> None:
    store = before.run.store
    watched = [store / "releases" / "CURRENT", store / "raw" / "sources.json"]
    former = [path.read_bytes() for path in watched]
    run = start_shrunk(before, apply_settings(tiny_config, ["contract.on_change=stop"]), tmp_path)
    with pytest.raises(RefusedError, match="data contract: events in the log: found 300") as stopped:
        run_stage(run, "ingest")
    assert stopped.value.exit_code == 1
    assert stopped.value.reasons == read_json(run.folder / "profile.json")["contract"]["changes"]
    assert len(stopped.value.reasons) >= 2
    assert [path.read_bytes() for path in watched] == former
    assert not run.is_done("ingest")
    taken = apply_settings(run.config, ["contract.on_change=warn"])
    run_stage(replace(run, config=taken), "ingest")
    assert run.is_done("ingest")


def test_only_published_runs_with_a_profile_are_compared_with(before: Outcome, tmp_path: Path) -> None:
    store = before.run.store
    assert read_trailing(store, 7).runs == [before.run.run_id]
    assert read_trailing(store, 7, leave_out=before.run.run_id).runs == []
    assert read_trailing(tmp_path / "none", 7).runs == []
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    path = copy / "runs" / before.run.run_id / "profile.json"
    path.write_text("{}")
    with pytest.raises(StoreError, match="holds no profile"):
        read_trailing(copy, 7)
    path.unlink()
    assert read_trailing(copy, 7).runs == []
