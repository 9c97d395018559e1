"""A forecast: comes in a configuration, goes out what its run will take, before anything is written.

The log is surveyed (a sample of it where it is long), some steps of training are taken on what was read and timed, and
the rest follows from how large things are. Memory is that of the whole process at its peak, measured on CPython 3.11
and Linux with the versions of constraints.txt: a part that no log changes, and bytes for each event, user and item.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cl.budget import Budget, count_hidden, estimate_budget, list_tried
from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import InputError, RefusedError
from recsys_cl.files import TEMPORARY, expand_home
from recsys_cl.index.build import choose_kind, count_bytes
from recsys_cl.interactions.survey import Survey, survey_log
from recsys_cl.machine import measure_free_disk, measure_free_memory
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.screening import LINEAR, SEQUENCE
from recsys_cl.training.loop import Hooks
from recsys_cl.training.trainer import train

_CALIBRATION_STEPS = 10
_BASE_BYTES = 740 << 20  # Python, polars, torch, its exporter, faiss: with no log at all
_READ_BASE_BYTES, _READ_BYTES = 300 << 20, {False: 85, True: 227}  # of an event in a bucket; True: with times
_EVENT_BYTES = 215  # of evaluating and publishing
_FLOATS_PER_VECTOR = 6  # copies of a table of vectors at once
_LOGIT_COPIES = 4  # of the logits of a step, gradients with them
_STORED_BYTES = 600_000  # reports, towers without tables, manifests
_SPILLED_BYTES = 20  # of an event in the scratch files of ingest
_CHECKPOINTS = 4  # three trainings, and one that replaces another; 16 bytes a float, 20 where it is averaged
_PUBLISH_SECONDS, _PAIR_SECONDS = 6e-8, 3e-8  # nominal: of a judged user and item, of two items of one user
_SLOWER, _FASTER = 2.5, 0.4  # on a machine that others use: minutes lie between these times what was measured


@dataclass(frozen=True)
class Range:
    """Between what a figure lies."""

    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What a run will take. n_read: rows; n_events: those the rules keep; n_pairs: distinct pairs of user and item.

    steps: of all trainings together. memory_bytes: of the process at its peak. disk_bytes: what is added to the store;
    peak_disk_bytes: what it may take while it runs. minutes: of the run. seconds_a_step, as they were measured here;
    share: of the log that was read, 1 where the counts are exact. notes: for people.
    """

    n_read: int
    n_events: int
    n_users: int
    n_items: int
    n_pairs: int
    steps: Range
    memory_bytes: int
    disk_bytes: int
    peak_disk_bytes: int
    minutes: Range
    seconds_a_step: float
    share: float
    notes: list[str]

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def describe(self) -> str:
        """In lines for people."""
        about = "" if self.share == 1 else "about "
        return "\n".join(
            [
                f"rows     {about}{self.n_read:,}, of which {self.n_events:,} are kept",
                f"users    {about}{self.n_users:,}",
                f"items    {about}{self.n_items:,}",
                f"pairs    {about}{self.n_pairs:,} of user and item",
                f"steps    {self.steps.low:,.0f} to {self.steps.high:,.0f}, of {self.seconds_a_step:.3g} s here",
                f"memory   {self.memory_bytes / 2**20:,.0f} MiB at the peak",
                f"disk     {self.disk_bytes / 2**20:,.0f} MiB, while it runs up to {self.peak_disk_bytes / 2**20:,.0f}",
                f"minutes  {self.minutes.low:.2g} to {self.minutes.high:.2g}",
                *self.notes,
                "nothing was written",
            ]
        )


@dataclass(frozen=True)
class Limits:
    """What there is: free memory, and free disk where the store is or would be; in bytes."""

    memory_bytes: int
    disk_bytes: int

    @staticmethod
    def measure(store: Path) -> Limits:
        """Of this machine."""
        return Limits(measure_free_memory(), measure_free_disk(store))


def forecast_run(config: Config, progress: Progress = report_nothing) -> Forecast:
    """Forecast a run over `config.ingest.log`, as if the store were new. Writes to a temporary folder alone, which is
    deleted. Raises ConfigError and LogError as ingest would, InputError where there is nothing to train on."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        survey = survey_log(config.ingest, config.images, Path(folder), progress)
        progress("forecast", 0, 0, "some steps of training")
        fastest, step_seconds = _time_steps(survey, config)
        n_paired = max(1, round(survey.n_users * _share_paired(survey)))
    budget = estimate_budget(config, (n_paired, survey.n_items, survey.n_events), "time" in survey.roles)
    pace = Range(fastest / budget.step_seconds, step_seconds / budget.step_seconds)
    memory, notes = _add_memory(survey, config), list(survey.notes)
    disk = _add_disk(survey, config)
    if config.images.enabled:
        notes.append("pictures are not part of this: neither their time nor their space")
    return Forecast(
        n_read=survey.n_read,
        n_events=survey.n_events,
        n_users=survey.n_users,
        n_items=survey.n_items,
        n_pairs=survey.n_pairs,
        steps=Range(budget.least_steps, budget.most_steps),
        memory_bytes=memory,
        disk_bytes=disk,
        peak_disk_bytes=max(disk, _add_peak_disk(survey, config)),
        minutes=_add_minutes(survey, config, budget, pace),
        seconds_a_step=step_seconds,
        share=survey.share,
        notes=notes,
    )


def check_fit(forecast: Forecast, limits: Limits) -> None:
    """Raise RefusedError with each figure that does not fit."""
    reasons = []
    if forecast.memory_bytes > limits.memory_bytes:
        reasons.append(
            f"memory: {forecast.memory_bytes / 2**20:,.0f} MiB are needed, {limits.memory_bytes / 2**20:,.0f} are free"
        )
    if forecast.peak_disk_bytes > limits.disk_bytes:
        reasons.append(
            f"disk: {forecast.peak_disk_bytes / 2**20:,.0f} MiB are needed, {limits.disk_bytes / 2**20:,.0f} are free"
        )
    if reasons:
        remedy = "take a shorter log (ingest.since), a smaller model.dim or training.batch_users, or a larger machine"
        raise RefusedError("this run cannot fit", reasons, remedy)


def _share_paired(survey: Survey) -> float:
    """The share of the users that hold a pair; nearly all where a sample shows only a part of each history."""
    sizes = survey.sample.to_bags().sizes
    return float(np.mean(sizes >= 2)) if survey.share == 1 else 1.0


def _time_steps(survey: Survey, config: Config) -> tuple[float, float]:
    """Seconds of a step of the tower as it is configured, with the layer that the recipe gives it, on what was read: of
    some, the fastest and the median."""
    ticks: list[float] = []

    def tick(what: str, done: float, total: float, note: str) -> None:
        del what, done, total, note
        ticks.append(time.perf_counter())

    started = time.perf_counter()
    config = apply_settings(config, [f"model.query_hidden={count_hidden(config)}"])
    try:
        train(survey.sample, config, n_steps=_CALIBRATION_STEPS, hooks=Hooks(progress=tick))
    except RefusedError:  # a loss that is no number takes as long
        ticks.append(time.perf_counter())
    except InputError:
        if survey.share == 1:
            raise
        ticks.append(time.perf_counter())
    taken = np.diff(ticks) if len(ticks) > 1 else np.array([ticks[0] - started])
    return float(taken.min()), float(np.median(taken))


def _add_memory(survey: Survey, config: Config) -> int:
    events_at_once = min(survey.n_read, max(config.ingest.bucket_rows, survey.n_read // 256))
    reading = _READ_BASE_BYTES + _READ_BYTES["time" in survey.roles] * events_at_once + 4 * survey.ids_bytes
    vectors = 4 * config.model.dim * (survey.n_users + survey.n_items)
    working = _BASE_BYTES + _EVENT_BYTES * survey.n_events + _FLOATS_PER_VECTOR * vectors + 4 * survey.ids_bytes
    working += _add_average(config) * _count_tower_floats(survey, config)
    return max(reading, working + _add_step_memory(survey, config), working + _add_linear_memory(survey, config))


def _add_step_memory(survey: Survey, config: Config) -> int:
    """The logits and hidden units of a training step: a tower that reads in order has a query an item of its users."""
    queries = min(config.training.batch_users, survey.n_users)
    offered = min(config.sampling.n_negatives, survey.n_items)
    floats = queries * (offered + count_hidden(config))
    tried = config.recipe.search and SEQUENCE in list_tried(config, "time" in survey.roles)
    if tried or config.sampling.positives == "next":
        places = max(1, min(config.model.history_length, survey.n_pairs // max(1, survey.n_users)))
        floats = max(floats, queries * places * (offered + config.model.query_hidden))
    return _LOGIT_COPIES * 4 * floats


def _add_linear_memory(survey: Survey, config: Config) -> int:
    tried = config.recipe.search and LINEAR in config.recipe.towers
    return 24 * survey.n_items**2 if tried and survey.n_items <= config.recipe.most_linear_items else 0


def _count_tower_floats(survey: Survey, config: Config) -> int:
    users = survey.n_users if config.model.user_weight else 0
    return (config.model.dim - 1) * (users + (1 if config.model.tied else 2) * survey.n_items)


def _add_average(config: Config) -> int:
    """Bytes of an average for each float of the towers."""
    free = config.recipe.search and "training.average_power" not in config.recipe.keep
    return 4 if free or config.training.average_power else 0


def _add_disk(survey: Survey, config: Config) -> int:
    """What is in the store in the end: the raw cache, the run, and the release."""
    dim, users, items = config.model.dim, survey.n_users, survey.n_items
    ids = survey.ids_bytes + 8 * (users + items)
    interactions = 16 * survey.n_events + 8 * users + ids
    vectors, bags = 4 * dim * (users + items), 4 * (dim - 1) * items
    layers = 2 * 4 * 2 * (dim - 1) * count_hidden(config)  # as weights, and for lookup
    towers = 4 * _count_tower_floats(survey, config) + layers
    index = count_bytes(choose_kind(items, dim, config.index), items, dim, config.index)
    run = interactions + 2 * vectors + bags + towers
    release = 2 * vectors + bags + towers + index + 5 * survey.n_pairs + ids
    files = [expand_home(name) for name in (config.ingest.items, config.ingest.users) if name]
    attributes = sum(2 * path.stat().st_size for path in files if path.is_file())
    return _STORED_BYTES + survey.raw_bytes + run + release + attributes


def _add_peak_disk(survey: Survey, config: Config) -> int:
    """The most that there may be before it is done: scratch files of ingest, checkpoints of trainings."""
    kept = survey.raw_bytes + 16 * survey.n_events + survey.ids_bytes
    checkpoints = _CHECKPOINTS * (16 + _add_average(config)) * _count_tower_floats(survey, config)
    vectors = 8 * config.model.dim * (survey.n_users + survey.n_items)
    return kept + max(_SPILLED_BYTES * survey.n_events, checkpoints + vectors)


def _add_minutes(survey: Survey, config: Config, budget: Budget, pace: Range) -> Range:
    """pace: how many times as long as nominal a step takes here, at its fastest and usually."""
    judged = min(survey.n_users, config.evaluation.most_users)
    together = survey.n_pairs * survey.n_pairs / max(1, survey.n_users)
    others = _PUBLISH_SECONDS * judged * survey.n_items + _PAIR_SECONDS * together
    low = _FASTER * (pace.low * budget.least_seconds + min(pace.low, 1.0) * others)
    high = _SLOWER * (pace.high * budget.most_seconds + max(pace.high, 1.0) * others)
    return Range((low + 0.1 * survey.seconds + 2) / 60, (high + 3 * survey.seconds + 60) / 60)
