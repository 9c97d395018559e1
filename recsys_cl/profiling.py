"""Profiling a log by itself: comes in a log and what to compare it with, goes out its profile and what changed.

The log is read into a temporary folder, which is deleted; neither a store nor a run is made or changed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_cl.config import Config, hide_password
from recsys_cl.contract import Bound, Trailing, compare, dump_profile, read_trailing
from recsys_cl.files import TEMPORARY
from recsys_cl.interactions.ingest import ingest_log
from recsys_cl.interactions.profile import WHOLE, Former, Profile
from recsys_cl.progress import Progress, report_nothing


@dataclass(frozen=True)
class Profiled:
    """log: as it was named, without a password. beside: the other log and its profile, None without one. runs: those of
    the store that it was compared with; bounds: every figure that was compared, with its bounds."""

    log: str
    profile: Profile
    beside: tuple[str, Profile] | None
    runs: list[str]
    bounds: list[Bound]
    config: Config

    @property
    def changes(self) -> list[str]:
        """A line for each figure past its bound."""
        return [bound.describe() for bound in self.bounds if bound.crossed]

    def dump(self) -> dict[str, Any]:
        """As the profile of a run, under the name of the log: `{"log", "beside", "whole", "arrived", "contract"}`."""
        values = dump_profile({WHOLE: self.profile}, self.runs, self.bounds, self.config.contract)
        beside = None if self.beside is None else {"log": self.beside[0], "whole": self.beside[1].dump()}
        return {"log": self.log, "beside": beside} | values


def profile_log(
    config: Config, *, beside: str | None = None, store: Path | None = None, progress: Progress = report_nothing
) -> Profiled:
    """Profile `config.ingest.log`, beside another log of the same form, or the last published runs of a store.

    Memory as ingest; the temporary folder takes the space of the parsed log. Raises ConfigError, LogError, StoreError.
    """
    trailing = Trailing([], [], None)
    other: Profile | None = None
    if store is not None:
        trailing = read_trailing(store, config.contract.trailing_runs)
    if beside is not None:
        other, former = _profile(config, beside, None, progress)
        trailing = Trailing([], [{WHOLE: other}], former)
    found, _ = _profile(config, config.ingest.log, trailing.former, progress)
    return Profiled(
        hide_password(config.ingest.log),
        found,
        None if beside is None or other is None else (hide_password(beside), other),
        list(trailing.runs),
        compare({WHOLE: found}, trailing.profiles, config.contract),
        config,
    )


def _profile(config: Config, log: str, former: Former | None, progress: Progress) -> tuple[Profile, Former]:
    """The profile of a log, and its users and items, in memory."""
    ingest = config.ingest.model_copy(update={"log": log, "items": "", "users": "", "incremental": False})
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        work = Path(folder)
        found = ingest_log(ingest, config.images, work / "raw", work, progress, check_enough=False)
        users, items = found.interactions.users, found.interactions.items
        return found.build_profiles(former)[WHOLE], Former(users, items)  # mapped: a deleted file lives on until then
