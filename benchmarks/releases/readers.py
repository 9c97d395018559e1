"""Readers beside publishers: comes in how many releases are to be published, goes out how many answers fitted none.

The releases of a few worlds follow one another, and old ones are pruned, while readers open what is live and ask about
an item, a user and a history. Each answer has to be, score by score, the one that this release's world gives: known
before, from a store of its own. An answer from parts of two releases would be another one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.releases.server import load_small
from recsys_cl.errors import RecsysError
from recsys_cl.publishing.release import publish_release
from recsys_cl.publishing.upkeep import prune_store
from recsys_cl.serving.lookup import Release, open_release

N_WORLDS = 5
_PRUNE_EVERY, _KEEP = 1, 1
_STOP = "stop"


@dataclass
class Reading:
    """queries: answers asked for; mixed: answers that fit no release; refused: releases that could not be opened;
    releases: how many different ones were met."""

    queries: int = 0
    mixed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    releases: int = 0


@dataclass(frozen=True)
class Publishing:
    """published: releases of all publishers; seconds: how long that took; readings: of each reader; names: of all
    releases, in no order; errors: of publishers."""

    published: int
    seconds: float
    readings: list[Reading]
    names: list[str]
    errors: list[str]


def read_while_publishing(work: Path, n_publishes: int, n_readers: int = 2, n_publishers: int = 1) -> Publishing:
    """Publish `n_publishes` releases by each of some processes while others read; `work` is an empty folder."""
    store, expected = work / "store", _expect(work)
    _publish_world(work, 0, store)
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_readers + n_publishers, mp_context=context) as pool:
        reading = [pool.submit(_read, work, store, expected) for _ in range(n_readers)]
        writing = [pool.submit(_publish_many, work, store, n_publishes, n) for n in range(n_publishers)]
        try:
            written = [job.result() for job in writing]
        finally:
            (work / _STOP).touch()
        readings = [job.result() for job in reading]
    names = [name for found, _ in written for name in found]
    errors = [error for _, found in written for error in found]
    return Publishing(len(names), time.perf_counter() - started, readings, names, errors)


def _expect(work: Path) -> list[Any]:
    """What the release of each world answers, alone in a store of its own."""
    return [_ask(open_release(_publish_world(work, seed, work / f"alone-{seed}"))) for seed in range(N_WORLDS)]


def _publish_world(work: Path, seed: int, store: Path) -> Path:
    small = load_small()
    world = small.World(seed=seed)
    publish_release(small.make_parts(work / f"given-{os.getpid()}-{seed}", world), small.make_facts(world), store)
    return store


def _publish_many(work: Path, store: Path, n_publishes: int, first: int) -> tuple[list[str], list[str]]:
    small, names, errors = load_small(), [], []
    worlds = [small.World(seed=seed) for seed in range(N_WORLDS)]
    made = [
        (small.make_parts(work / f"given-{os.getpid()}-{world.seed}", world), small.make_facts(world))
        for world in worlds
    ]
    for n in range(n_publishes):
        try:
            names.append(publish_release(*made[(first + n) % N_WORLDS], store))
            if n % _PRUNE_EVERY == _PRUNE_EVERY - 1:
                prune_store(store, _KEEP)
        except RecsysError as error:
            errors.append(str(error))
    return names, errors


def _read(work: Path, store: Path, expected: list[Any]) -> Reading:
    found, met = Reading(), set()
    while not (work / _STOP).exists():
        try:
            release = open_release(store)
            answers = _ask(release)
            seed = release.manifest.config["training"]["seed"]
        except RecsysError as error:
            found.refused.append(str(error))
            continue
        met.add(release.version)
        found.queries += len(answers)
        found.mixed += [
            f"{release.version}: answer {n}" for n, answer in enumerate(answers) if answer != expected[seed][n]
        ]
    found.releases = len(met)
    return found


def _ask(release: Release) -> list[Any]:
    """Answers as texts, every float of them."""
    answers = (
        release.answer_similar("007", 10),
        release.answer_user("u5", 10),
        release.answer_history(["Case", "a,b"], 10),
    )
    return [json.dumps(answer) for answer in answers]
