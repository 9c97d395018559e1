"""From parsed sources to interactions on disk: ids get rows, users go to buckets, rules are applied, arrays written.

Comes in as the parts of the raw cache; goes out as the folder that `Interactions.read` maps, and refused rows. Buckets
hold ranges of users in the order of their ids, so that the arrays are written from front to back, never at random.
Memory: the distinct ids, one batch, and one bucket of about `bucket_rows` events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recsys_cl.config import IngestConfig
from recsys_cl.files import write_folder, write_json
from recsys_cl.ids import IdMap
from recsys_cl.interactions.arrays import ArrayFile
from recsys_cl.interactions.raw import EVENTS, REFUSED_ROWS, Part, walk_parquet
from recsys_cl.interactions.refusals import Refusals
from recsys_cl.interactions.rules import ALIVE, RowRules, find_core, find_refused
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import Progress

_MOST_BUCKETS = 256  # files that are open at once
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Ids:
    """The ids of all events that pass the rules of a row, before those of users; bucket of each user [n_users]."""

    users: IdMap
    items: IdMap
    kinds: IdMap
    buckets: NDArray[np.int64]

    @property
    def n_buckets(self) -> int:
        """Number of buckets; 0 without events."""
        return int(self.buckets[-1]) + 1 if len(self.buckets) else 0


@dataclass(frozen=True)
class Assembly:
    """What a step needs: the parts in order, the raw cache, the scratch folder, the configuration, and the outlet of
    refused rows."""

    parts: Sequence[Part]
    raw: Path
    scratch: Path
    config: IngestConfig
    rules: RowRules
    refusals: Refusals
    progress: Progress

    @property
    def timed(self) -> bool:
        """Whether events have times."""
        return "time" in self.parts[0].columns


@dataclass(frozen=True)
class Assembled:
    """The interactions, mapped, and their span: the first and last time in microseconds (or place in the log); kinds:
    events of each kind, empty where the log has none."""

    interactions: Interactions
    span: tuple[int, int]
    kinds: dict[str, int]


def assemble_interactions(assembly: Assembly, folder: Path) -> Assembled | None:
    """Apply all rules and write the interactions to `folder`; None, and nothing written, where no event is left."""
    for part in assembly.parts:
        for frame in walk_parquet(assembly.raw / part.key / REFUSED_ROWS, assembly.config.batch_rows):
            assembly.refusals.add(part.name, frame)
    ids = _collect_ids(assembly)
    _spill_events(assembly, ids)
    seen_users = np.zeros(len(ids.users), dtype=bool)
    seen_items = np.zeros(len(ids.items), dtype=bool)
    for bucket in range(ids.n_buckets):
        assembly.progress("applying rules", bucket, ids.n_buckets, "users and duplicates")
        kept = _clean_bucket(assembly, ids, bucket)
        seen_users[kept["user"].to_numpy()] = True
        seen_items[kept["item"].to_numpy()] = True
    died_users, died_items = _find_departures(assembly, ids)
    users, items = seen_users & (died_users == ALIVE), seen_items & (died_items == ALIVE)
    buckets = _walk_kept(assembly, ids, died_users, died_items)
    if not users.any():
        for _ in buckets:  # the reasons of those that left the core are still to be written
            pass
        return None
    per_kind = np.zeros(len(ids.kinds), dtype=np.int64)
    span = _write_interactions(assembly, ids, (users, items), _count_kinds(buckets, per_kind), folder)
    kinds = dict(zip(ids.kinds.to_series(), per_kind.tolist(), strict=True))
    return Assembled(Interactions.read(folder), span, {kind: n for kind, n in kinds.items() if n})


def _collect_ids(assembly: Assembly) -> Ids:
    scans = [part.scan(assembly.raw) for part in assembly.parts if part.n_events]
    if not scans:
        nobody = IdMap.build([])
        return Ids(nobody, nobody, nobody, np.zeros(0, dtype=np.int64))
    assembly.progress("counting", 0, 0, "distinct users and items")
    events = pl.concat(scans).filter(assembly.rules.find_reasons().is_null())
    per_user = events.group_by("user").len().collect(engine="streaming").sort("user")
    n_events = int(per_user["len"].sum())
    size = max(assembly.config.bucket_rows, -(-n_events // _MOST_BUCKETS))
    before = per_user["len"].cum_sum().to_numpy().astype(np.int64) - per_user["len"].to_numpy()
    _, buckets = np.unique(before // size, return_inverse=True)
    items = events.select("item").unique().collect(engine="streaming")["item"]
    named = "kind" in assembly.parts[0].columns
    kinds = events.select("kind").unique().collect(engine="streaming")["kind"] if named else pl.Series(dtype=pl.String)
    return Ids(IdMap.build(per_user["user"]), IdMap.build(items), IdMap.build(kinds), buckets.astype(np.int64))


def _spill_events(assembly: Assembly, ids: Ids) -> None:
    """Write each event that passes the rules of a row to the bucket of its user, in order of the log."""
    sequence = 0
    total = sum(part.n_events for part in assembly.parts)
    with ExitStack() as stack:
        writers: dict[int, Any] = {}
        for number, part in enumerate(assembly.parts):
            for rows in walk_parquet(assembly.raw / part.key / EVENTS, assembly.config.batch_rows):
                rows = rows.with_columns(seq=pl.int_range(sequence, sequence + rows.height, dtype=pl.Int64))
                sequence += rows.height
                rows = rows.with_columns(assembly.rules.find_reasons().alias("reason"))
                refused = rows.filter(pl.col("reason").is_not_null())
                assembly.refusals.add_events(part, refused)
                coded = _encode(rows.filter(pl.col("reason").is_null()).drop("reason"), ids, number)
                for key, share in coded.partition_by("bucket", as_dict=True, include_key=False).items():
                    bucket = int(key[0])
                    table = share.to_arrow(compat_level=pl.CompatLevel.oldest())
                    if bucket not in writers:
                        options = pa.ipc.IpcWriteOptions(compression="lz4")
                        path = str(_name_spill(assembly, bucket))
                        writers[bucket] = stack.enter_context(pa.ipc.new_stream(path, table.schema, options=options))
                    writers[bucket].write_table(table)
                assembly.progress("applying rules", sequence, total, "rows")


def _encode(rows: pl.DataFrame, ids: Ids, number: int) -> pl.DataFrame:
    users = ids.users.find_rows(rows["user"])
    columns = [
        pl.Series("user", users, dtype=pl.Int32),
        pl.Series("item", ids.items.find_rows(rows["item"]), dtype=pl.Int32),
        pl.Series("bucket", ids.buckets[users]),
        pl.lit(number, pl.Int32).alias("file"),
    ]
    if "kind" in rows.columns:
        columns.append(pl.Series("kind", ids.kinds.find_rows(rows["kind"]), dtype=pl.Int32))
    return rows.with_columns(columns)


def _clean_bucket(assembly: Assembly, ids: Ids, bucket: int) -> pl.DataFrame:
    """Apply the rules of users to one bucket, write back what is left, in order of user, time, log; and its pairs."""
    path = _name_spill(assembly, bucket)
    order = ["user", "time", "seq"] if assembly.timed else ["user", "seq"]
    events = pl.read_ipc_stream(path).sort(order)
    reasons = find_refused(events, assembly.config)
    _refuse_coded(assembly, ids, events.with_columns(reasons.alias("reason")).filter(reasons.is_not_null()))
    kept = events.filter(reasons.is_null())
    kept.write_ipc_stream(path, compression="lz4")
    if _has_core(assembly.config):
        pairs = kept.select("user", "item").unique(maintain_order=True)
        np.save(path.with_suffix(".npy"), pairs.to_numpy().astype(np.int32), allow_pickle=False)
    return kept


def _find_departures(assembly: Assembly, ids: Ids) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    size = (len(ids.users), len(ids.items))
    if not _has_core(assembly.config):
        return np.full(size[0], ALIVE, dtype=np.int32), np.full(size[1], ALIVE, dtype=np.int32)

    def load_pairs(bucket: int) -> NDArray[np.int32]:
        pairs: NDArray[np.int32] = np.load(_name_spill(assembly, bucket).with_suffix(".npy"), allow_pickle=False)
        return pairs

    return find_core(size, load_pairs, ids.n_buckets, (assembly.config.core_users, assembly.config.core_items))


def _walk_kept(
    assembly: Assembly, ids: Ids, died_users: NDArray[np.int32], died_items: NDArray[np.int32]
) -> Iterator[pl.DataFrame]:
    """The events of each bucket that are in the k-core; the others are refused on the way."""
    for bucket in range(ids.n_buckets):
        assembly.progress("writing interactions", bucket, ids.n_buckets, "")
        path = _name_spill(assembly, bucket)
        events = pl.read_ipc_stream(path)
        users, items = died_users[events["user"].to_numpy()], died_items[events["item"].to_numpy()]
        gone = pl.Series(np.minimum(users, items) != ALIVE)
        if gone.any():
            reasons = pl.Series("reason", np.where(users < items, "core_user", "core_item"))
            _refuse_coded(assembly, ids, events.with_columns(reasons).filter(gone))
            events = events.filter(~gone)
        yield events
        path.unlink()


def _count_kinds(buckets: Iterator[pl.DataFrame], per_kind: NDArray[np.int64]) -> Iterator[pl.DataFrame]:
    """The same buckets; the events of each kind are added to per_kind [n_kinds] on the way."""
    for events in buckets:
        if "kind" in events.columns:
            per_kind += np.bincount(events["kind"].to_numpy(), minlength=len(per_kind))
        yield events


def _write_interactions(
    assembly: Assembly,
    ids: Ids,
    alive: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    buckets: Iterator[pl.DataFrame],
    folder: Path,
) -> tuple[int, int]:
    """Write the arrays bucket by bucket, as `Interactions.write` would, and give the span of times.

    alive: which users and which items stay; their rows are counted among these.
    """
    rows_of_users, rows_of_items = (np.cumsum(mask) - 1 for mask in alive)
    ends: list[int] = []
    sizes = np.zeros(int(alive[0].sum()), dtype=np.int64)
    with write_folder(folder) as temporary:
        with (
            ArrayFile(temporary / "item_rows.npy", np.int32) as item_rows,
            ArrayFile(temporary / "times.npy", np.int64) as times,
            ArrayFile(temporary / "weights.npy", np.float32) as weights,
        ):
            for events in buckets:
                sizes += np.bincount(rows_of_users[events["user"].to_numpy()], minlength=len(sizes))
                item_rows.append(rows_of_items[events["item"].to_numpy()])
                stamps = events["time" if assembly.timed else "seq"].to_numpy()
                times.append(stamps)
                ends += [int(stamps.min()), int(stamps.max())] if len(stamps) else []
                weights.append(_weigh(events, ids.kinds, assembly.config))
        np.save(temporary / "offsets.npy", np.concatenate(([0], np.cumsum(sizes))), allow_pickle=False)
        for name, known, mask in (("users", ids.users, alive[0]), ("items", ids.items, alive[1])):
            IdMap(known.array.filter(pa.array(mask))).write(temporary / f"{name}.arrow")
        write_json(temporary / "interactions.json", {"timed": assembly.timed})
    return min(ends), max(ends)


def _weigh(events: pl.DataFrame, kinds: IdMap, config: IngestConfig) -> NDArray[np.float64]:
    """The weight of each event [n]: that of its kind times its own, above 0 in float32 too."""
    weights = events["weight"].to_numpy() if "weight" in events.columns else np.ones(events.height)
    if config.kind_weights:
        of_kind = np.array([config.kind_weights[kind] for kind in kinds.to_series()])
        weights = weights * of_kind[events["kind"].to_numpy()]
    return np.maximum(weights, _SMALLEST)


def _refuse_coded(assembly: Assembly, ids: Ids, refused: pl.DataFrame) -> None:
    """Refuse events of a bucket, whose users, items and kinds are rows: write them under their ids."""
    for (number,), events in refused.partition_by("file", as_dict=True, maintain_order=True).items():
        named = [pl.Series("user", ids.users.get_ids(events["user"].to_numpy()))]
        named.append(pl.Series("item", ids.items.get_ids(events["item"].to_numpy())))
        if "kind" in events.columns:
            named.append(pl.Series("kind", ids.kinds.get_ids(events["kind"].to_numpy())))
        assembly.refusals.add_events(assembly.parts[number], events.with_columns(named))


def _has_core(config: IngestConfig) -> bool:
    return config.core_users > 1 or config.core_items > 1


def _name_spill(assembly: Assembly, bucket: int) -> Path:
    return assembly.scratch / f"bucket-{bucket}.arrows"
