"""Users taken out of interactions and of the raw cache: comes in what an ingest wrote, goes out the same without them.

What others did stays as it is, in its order. Rules that look at the whole log (the k-core) are not applied again.
Memory: the distinct ids, and one block.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recsys_cl.files import dump_json, hash_file, hash_text, write_json
from recsys_cl.ids import IdMap
from recsys_cl.interactions.arrays import copy_ranges, leave_out
from recsys_cl.interactions.raw import EVENTS, REFUSED_ROWS, SUMMARY, read_summary
from recsys_cl.interactions.table import Interactions
from recsys_cl.interactions.user_tables import UserTable

_BLOCK_EVENTS = 4_000_000


def write_without(interactions: Interactions, ids: pl.Series, folder: Path) -> None:
    """Write interactions without these users into a new `folder`; items that nobody else touched go, too."""
    found = interactions.users.find_rows(ids)
    gone = np.unique(found[found >= 0])
    users = leave_out(interactions.n_users, gone)
    offsets = interactions.offsets
    events = [(int(offsets[start]), int(offsets[stop])) for start, stop in users]
    touched = np.zeros(interactions.n_items, dtype=bool)
    for first, behind in events:
        for start in range(first, behind, _BLOCK_EVENTS):
            touched[interactions.item_rows[start : min(start + _BLOCK_EVENTS, behind)]] = True
    rows = (np.cumsum(touched) - 1).astype(np.int32)
    folder.mkdir()
    copy_ranges(interactions.item_rows, events, folder / "item_rows.npy", lambda part: rows[part])
    copy_ranges(interactions.times, events, folder / "times.npy")
    copy_ranges(interactions.weights, events, folder / "weights.npy")
    sizes = np.delete(np.diff(offsets), gone)
    np.save(folder / "offsets.npy", np.concatenate(([0], np.cumsum(sizes))).astype(np.int64), allow_pickle=False)
    kept = np.ones(interactions.n_users, dtype=bool)
    kept[gone] = False
    for name, known, mask in (("users", interactions.users, kept), ("items", interactions.items, touched)):
        _take_ids(known, mask).write(folder / f"{name}.arrow")
    write_json(folder / "interactions.json", {"timed": interactions.timed})


def erase_part(part: Path, fields: tuple[str, ...], ids: pl.Series, target: Path) -> None:
    """Write the folder `part` of the raw cache without these users to a new folder `target`.

    fields: the columns that name the user in its sources. The summary counts what is left and says by which rows, so
    that who builds on them can tell them from those that were read.
    """
    summary = read_summary(part)
    target.mkdir()
    n_events = UserTable(part / EVENTS, ("user",)).drop(ids, target / EVENTS).n_rows
    refused = UserTable(part / REFUSED_ROWS, fields, refused=True).drop(ids, target / REFUSED_ROWS)
    erased = hash_text("".join(hash_file(target / name) for name in (EVENTS, REFUSED_ROWS)))
    found = {"n_rows": n_events + refused.n_rows, "refused": dict(refused.reasons), "erased": erased}
    write_json(target / SUMMARY, summary | found)


def hash_ingested(files: Mapping[str, Path]) -> str:
    """A fingerprint of what a run has ingested, by the bytes of these files under these names."""
    return hash_text(dump_json([[name, hash_file(files[name])] for name in sorted(files)]))


def _take_ids(ids: IdMap, mask: NDArray[np.bool_]) -> IdMap:
    return IdMap(ids.array.filter(pa.array(mask)))
