"""The package as a library: comes in a configuration and frames, goes out an open release and its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from recsys_cl import pipeline
from recsys_cl.config import Config, apply_settings, build_config, format_value, read_config
from recsys_cl.errors import ConfigError, InputError
from recsys_cl.runs import create_run
from recsys_cl.serving.frames import Frame, give_frame, is_pandas
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.summary import describe_outcome


@dataclass(frozen=True)
class Result:
    """A finished run. release: open; metrics: a frame with model, metric, value, low, high (the bootstrap interval),
    of the kind of frame that came in; outcome: everything the stages wrote."""

    release: Release
    metrics: Frame
    outcome: pipeline.Outcome

    def __str__(self) -> str:
        return describe_outcome(self.outcome)


def run(
    config: Config | Mapping[str, Any] | str | Path | None = None,
    interactions: Frame | None = None,
    *,
    items: Frame | None = None,
    users: Frame | None = None,
    store: str | Path | None = None,
    force: str | None = None,
) -> Result:
    """Ingest, train, evaluate and publish, as `recsys-cl run` does.

    config: a Config, a mapping of sections, the path of a TOML file, or None for the defaults. interactions: a pandas
    or polars frame with a row for each event, its columns recognized by name; without one, the configured log is read.
    items, users: frames with their attributes. Raises what the stages raise: see `recsys_cl.errors`.
    """
    settings = _load(config)
    if store is not None:
        settings = apply_settings(settings, [f"publishing.store={format_value(str(store))}"])
    if interactions is None and not settings.ingest.log:
        raise ConfigError("no interactions to read", "a frame, or ingest.log in the configuration")
    frames = pipeline.Frames(
        *(_read(frame, name) for frame, name in ((interactions, "interactions"), (items, "items"), (users, "users")))
    )
    outcome = pipeline.run_all(create_run(Path(settings.publishing.store), settings), force=force, frames=frames)
    metrics = outcome.read("evaluation")["metrics"]
    rows = [
        {"model": model, "metric": metric} | {name: metrics[model][metric][name] for name in ("value", "low", "high")}
        for model in ("model", "popularity", "item_knn")
        for metric in metrics[model]
    ]
    return Result(open_release(outcome.run.store), give_frame(pl.DataFrame(rows), interactions), outcome)


def _load(config: Config | Mapping[str, Any] | str | Path | None) -> Config:
    if config is None:
        return Config()
    if isinstance(config, Config):
        return config
    return read_config(Path(config)) if isinstance(config, (str, Path)) else build_config(_simplify(config))


def _simplify(value: Any) -> Any:
    """Numbers and arrays of numpy as those of Python, and paths as texts."""
    if isinstance(value, Mapping):
        return {key: _simplify(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_simplify(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


def _read(frame: Frame | None, name: str) -> pl.DataFrame | None:
    """The frame as polars; ids that pandas holds as objects become strings."""
    if frame is None or isinstance(frame, pl.DataFrame):
        return frame
    if not is_pandas(frame):
        raise InputError(f"{name} is a {type(frame).__name__}", "a pandas or polars frame")
    try:
        return pl.from_pandas(frame)
    except (TypeError, ValueError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise InputError(f"{name} cannot be read ({error})", "columns of one type each") from error
