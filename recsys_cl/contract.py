"""The data contract: comes in the profile of what a run has ingested and those of the runs before, goes out what
changed past its bound.

A figure is compared with its median over the trailing runs. It may differ by its own bound, or by some spreads of those
runs where that is more: a log that is half as long on every Sunday is no surprise on a Sunday.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cl.config import ContractConfig
from recsys_cl.errors import RefusedError, StoreError
from recsys_cl.files import read_json, write_json
from recsys_cl.ids import IdMap
from recsys_cl.interactions.ingest import INTERACTIONS_FOLDER, Ingested
from recsys_cl.interactions.profile import ARRIVED, WHOLE, Former, Profile
from recsys_cl.runs import Run, list_published

PROFILE = "profile.json"
_SCOPES = {WHOLE: "the log", ARRIVED: "what arrived since the run before"}
_LEAST_SPREAD_RUNS = 5  # fewer do not tell a spread
_NEW = [0.5]  # a second run has nothing to tell how many new ids are usual: what nearly all of the ids are is not
_TO_DEVIATION = 1.4826  # of a median deviation, where values are normal


@dataclass(frozen=True)
class Bound:
    """One figure beside the trailing runs: found, their median and spread (0 where they are too few), and between what
    it may lie, None for no bound. scope: `whole` or `arrived`."""

    scope: str
    figure: str
    found: float
    median: float
    spread: float
    low: float | None
    high: float | None

    @property
    def shown_scope(self) -> str:
        """The scope for people."""
        return _SCOPES[self.scope]

    @property
    def crossed(self) -> bool:
        """Whether the figure lies outside."""
        below = self.low is not None and self.found < self.low
        return below or (self.high is not None and self.found > self.high)

    def describe(self) -> str:
        """In one line for people: found, the trailing median, the bound."""
        bounds = [
            f"{words} {show(end)}" for words, end in (("at least", self.low), ("at most", self.high)) if end is not None
        ]
        return (
            f"{self.figure} in {self.shown_scope}: found {show(self.found)}, trailing median {show(self.median)}, "
            f"expected {' and '.join(bounds)}"
        )

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"crossed": self.crossed}


@dataclass(frozen=True)
class _Figure:
    """What is compared: read gives it, None where a profile has it not; fall, rise: how far from the median it may lie,
    None for however far; relative: as shares of the median. assumed: values for trailing runs of which none has it."""

    name: str
    read: Callable[[Profile], float | None]
    fall: float | None
    rise: float | None
    relative: bool = False
    assumed: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Trailing:
    """The runs that are compared with, oldest first: their ids, and what each knows of its profiles by scope; former:
    the users and items of the last one, None where there is none that has kept them."""

    runs: list[str]
    profiles: Sequence[Mapping[str, Profile]]
    former: Former | None


def judge_ingested(run: Run, ingested: Ingested) -> list[str]:
    """Profile what a run has ingested, compare it with the trailing runs, and write both to its folder.

    Gives a line for each change, for the report. Raises RefusedError where `on_change` is stop and something changed;
    the profile stays.
    """
    config = run.config.contract
    trailing = read_trailing(run.store, config.trailing_runs, run.run_id)
    profiles = ingested.build_profiles(trailing.former)
    bounds = compare(profiles, trailing.profiles, config)
    write_json(run.folder / PROFILE, dump_profile(profiles, trailing.runs, bounds, config))
    changes = [bound.describe() for bound in bounds if bound.crossed]
    if changes and config.on_change == "stop":
        raise RefusedError(
            "data contract",
            changes,
            f"the profile is in {run.folder / PROFILE}; to take the data as it is: "
            f"{run.resume_command} --set contract.on_change=warn",
        )
    return [f"data contract: {change}" for change in changes]


def dump_profile(
    profiles: Mapping[str, Profile], runs: Sequence[str], bounds: Sequence[Bound], config: ContractConfig
) -> dict[str, Any]:
    """Profiles and their comparison as JSON values: a profile a scope (`arrived` is null where all of the log is new),
    and `contract`: `{"on_change", "runs", "bounds", "changes"}`."""
    contract = {
        "on_change": config.on_change,
        "runs": list(runs),
        "bounds": [bound.dump() for bound in bounds],
        "changes": [bound.describe() for bound in bounds if bound.crossed],
    }
    return {scope: profiles[scope].dump() if scope in profiles else None for scope in _SCOPES} | {"contract": contract}


def read_trailing(store: Path, n: int, leave_out: str = "") -> Trailing:
    """The last n runs of a store that have published and kept a profile, but for one."""
    folders = [folder for folder in list_published(store) if (folder / PROFILE).is_file() and folder.name != leave_out]
    folders = folders[-n:]
    return Trailing(
        [folder.name for folder in folders],
        [read_profiles(folder / PROFILE) for folder in folders],
        _read_former(folders[-1]) if folders else None,
    )


def read_profiles(path: Path) -> dict[str, Profile]:
    """The profiles of a run by scope. Raises StoreError where the file holds none."""
    try:
        values = read_json(path)
        return {scope: Profile.load(values[scope]) for scope in _SCOPES if values[scope] is not None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} holds no profile ({error})", remedy="remove it: it is then not compared with"
        ) from None


def read_bounds(folder: Path) -> list[Bound]:
    """What a run compared, from its folder; nothing before it has, and where there was nothing to compare with."""
    path = folder / PROFILE
    found = read_json(path)["contract"]["bounds"] if path.is_file() else []
    return [Bound(**{name: value for name, value in bound.items() if name != "crossed"}) for bound in found]


def compare(
    profiles: Mapping[str, Profile], trailing: Sequence[Mapping[str, Profile]], config: ContractConfig
) -> list[Bound]:
    """Every figure that the trailing runs have too, with its bounds; nothing without them, or where it is off."""
    if config.on_change == "off":
        return []
    bounds = []
    for scope, profile in profiles.items():
        before = [profiles[scope] for profiles in trailing if scope in profiles]
        bounds += _compare_scope(scope, profile, before, config)
    return bounds


def _compare_scope(scope: str, found: Profile, before: Sequence[Profile], config: ContractConfig) -> list[Bound]:
    bounds = []
    for figure in _list_figures([found, *before], config) if before else []:
        value = figure.read(found)
        values = [known for known in map(figure.read, before) if known is not None]
        if value is None or not (values := values or figure.assumed):
            continue
        median, spread = float(np.median(values)), _measure_spread(values)
        slack, unit = config.spreads * spread, median if figure.relative else 1.0
        low = None if figure.fall is None else max(0.0, median - max(figure.fall * unit, slack))
        high = None if figure.rise is None else median + max(figure.rise * unit, slack)
        bounds.append(Bound(scope, figure.name, float(value), median, spread, low, high))
    return bounds


def _list_figures(profiles: Sequence[Profile], config: ContractConfig) -> list[_Figure]:
    """What is compared; profiles: the one that is judged, then those before."""
    kinds = sorted({kind for profile in profiles for kind in profile.kinds})
    hours = [profile.times.hours for profile in profiles[1:] if profile.times is not None]
    usual = np.median(hours, axis=0) if hours else np.zeros(0)

    def read_kind(kind: str) -> Callable[[Profile], float | None]:
        return lambda p: p.kinds.get(kind, 0) / max(1, sum(p.kinds.values())) if p.kinds else None

    def read_hours(profile: Profile) -> float | None:
        """The share of the events that would have to move to make the hours of the day the usual ones."""
        times = profile.times
        return None if times is None or not hours else float(np.abs(np.array(times.hours) - usual).sum() / 2)

    top, kind, volume = config.most_top_change, config.most_kind_change, config.most_volume_fall
    return [
        _Figure("events", lambda p: p.n_events, volume, config.most_volume_rise, relative=True),
        _Figure("users", lambda p: p.n_users, config.most_users_fall, None, relative=True),
        _Figure("items", lambda p: p.n_items, config.most_items_fall, None, relative=True),
        _Figure("share refused", lambda p: p.refused_share, None, config.most_refused_rise),
        _Figure("share of new users", lambda p: p.new_users, None, config.most_new_users_rise, assumed=_NEW),
        _Figure("share of new items", lambda p: p.new_items, None, config.most_new_items_rise, assumed=_NEW),
        _Figure("share of the top 1 % of items", lambda p: p.popularity.get("top_1"), top, top),
        *(_Figure(f"share of kind {name!r}", read_kind(name), kind, kind) for name in kinds),
        _Figure("share in unusual hours of the day", read_hours, None, config.most_hours_change),
        _Figure(
            "days without events",
            lambda p: None if p.times is None else p.times.n_silent_days,
            None,
            config.most_silent_days_rise,
        ),
    ]


def _measure_spread(values: Sequence[float]) -> float:
    """1.48 × the median distance from the median, which few outliers do not move; 0 for few runs."""
    if len(values) < _LEAST_SPREAD_RUNS:
        return 0.0
    return float(_TO_DEVIATION * np.median(np.abs(np.array(values) - np.median(values))))


def _read_former(folder: Path) -> Former | None:
    interactions = folder / INTERACTIONS_FOLDER
    if not interactions.is_dir():  # someone has made room
        return None
    return Former(IdMap.read(interactions / "users.arrow"), IdMap.read(interactions / "items.arrow"))


def show(value: float) -> str:
    """A count as a whole number, a share with three digits."""
    return f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:,.3f}".rstrip("0").rstrip(".")
