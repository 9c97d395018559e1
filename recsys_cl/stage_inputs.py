"""What stages read of a run beside the results of each other: its split, and its attributes, written or as they are
now."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from recsys_cl.catalog import join_attributes
from recsys_cl.errors import ConfigError
from recsys_cl.files import TEMPORARY, read_json
from recsys_cl.interactions.attributes import read_items
from recsys_cl.interactions.ingest import ingest_log
from recsys_cl.interactions.split import Split, align, split_interactions
from recsys_cl.interactions.table import Interactions
from recsys_cl.runs import Run

# A given test file is read as it is: the rules that judge a whole log would judge a part of one here.
_TEST_LOG: dict[str, Any] = {
    "items": "",
    "users": "",
    "incremental": False,
    "window": "",
    "since": "",
    "until": "",
    "core_users": 1,
    "core_items": 1,
    "most_events_per_day": 0,
}


def split_run(run: Run, interactions: Interactions) -> Split:
    """The split is a function of its inputs, so that no stage needs to store it."""
    config, seed = run.config.split, run.config.training.seed
    if config.by != "file":
        return split_interactions(interactions, config, seed)
    if not config.test:
        raise ConfigError("split.by is file, but no test file is given", "split.test", "--set split.test=FILE")
    given = run.config.ingest.model_copy(update=_TEST_LOG | {"log": config.test})
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=run.folder) as work:
        found = ingest_log(given, run.config.images, Path(work) / "raw", Path(work), check_enough=False)
        train, test = align(interactions, found.interactions)
        return split_interactions(train, config, seed, test)


def read_frame(path: Path) -> pl.DataFrame | None:
    """A table that a stage has written; None where there was nothing to write."""
    return pl.read_parquet(path) if path.exists() else None


def read_items_anew(run: Run) -> pl.DataFrame | None:
    """The items file as it is now, for new items may have come since; attributes given in memory as they were."""
    column = read_json(run.folder / "ingest.json")["columns"]["item"]
    found = read_items(run.config.ingest, run.config.images, [column])
    return read_frame(run.folder / "items.parquet") if found is None else found.frame


def join_users(interactions: Interactions, path: Path) -> pa.Table | None:
    """A line of attributes for each user of the log."""
    attributes = read_frame(path)
    if attributes is None:
        return None
    return join_attributes(interactions.users, attributes, "user_id")
