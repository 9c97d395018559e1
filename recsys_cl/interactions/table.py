"""Interactions: validated events as arrays, users and items as rows; written to and mapped from a folder.

Memory: 16 bytes an event, 8 bytes a user, and the ids; read back memory-mapped, so that only what is touched counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.errors import StoreError
from recsys_cl.files import read_json, write_folder, write_json
from recsys_cl.ids import IdMap

_ARRAYS = {"offsets": np.int64, "item_rows": np.int32, "times": np.int64, "weights": np.float32}
MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True)
class Interactions:
    """Events of user u are offsets[u]:offsets[u + 1], in order of time (ties: in order of the log).

    offsets [n_users + 1] int64; item_rows [n] int32; times [n] int64, microseconds since 1970 UTC where `timed`,
    else the position in the log; weights [n] float32, positive. A user or item may have no event (after a split).
    """

    users: IdMap
    items: IdMap
    offsets: NDArray[np.int64]
    item_rows: NDArray[np.int32]
    times: NDArray[np.int64]
    weights: NDArray[np.float32]
    timed: bool

    def __post_init__(self) -> None:
        n = len(self.item_rows)
        if len(self.offsets) != len(self.users) + 1 or self.offsets[-1] != n:
            raise ValueError(f"{len(self.offsets)} offsets, {len(self.users)} users, {n} events do not belong together")
        if len(self.times) != n or len(self.weights) != n:
            raise ValueError(f"{len(self.times)} times, {len(self.weights)} weights, {n} events")

    @property
    def n_users(self) -> int:
        """Number of users, those without events too."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items, those without events too."""
        return len(self.items)

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.item_rows)

    def expand_users(self) -> NDArray[np.int32]:
        """The user row of each event [n_events]."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.offsets))

    def select(self, mask: NDArray[np.bool_]) -> Interactions:
        """The events where mask [n_events] holds; users and items keep their rows."""
        kept = np.concatenate(([0], np.cumsum(mask, dtype=np.int64)))
        return Interactions(
            self.users,
            self.items,
            kept[self.offsets],
            self.item_rows[mask],
            self.times[mask],
            self.weights[mask],
            self.timed,
        )

    def copy(self) -> Interactions:
        """The same, its arrays in memory: no longer bound to the files that were mapped (the ids stay mapped)."""
        return replace(
            self,
            offsets=np.array(self.offsets),
            item_rows=np.array(self.item_rows),
            times=np.array(self.times),
            weights=np.array(self.weights),
        )

    def count_users(self) -> NDArray[np.int64]:
        """Distinct users of each item [n_items]."""
        bags = self.to_bags()
        return np.bincount(bags.item_rows, minlength=self.n_items)

    def to_bags(self) -> Bags:
        """Each user's distinct items, in order of their first event, weights of repeats added."""
        key = self.expand_users().astype(np.int64) * self.n_items + self.item_rows
        order = np.argsort(key, kind="stable")
        fresh = np.concatenate(([True], np.diff(key[order]) != 0)) if len(key) else np.zeros(0, dtype=bool)
        starts = np.flatnonzero(fresh)
        if len(starts) == len(key):  # nothing repeats: the common case after deduplication
            return Bags(self.offsets, self.item_rows, self.weights)
        weights = np.add.reduceat(self.weights[order], starts)
        first = order[starts]
        by_event = np.argsort(first)
        places = first[by_event]
        mask = np.zeros(len(key), dtype=bool)
        mask[places] = True
        kept = np.concatenate(([0], np.cumsum(mask, dtype=np.int64)))
        return Bags(kept[self.offsets], self.item_rows[places], weights[by_event].astype(np.float32))

    def write(self, folder: Path) -> None:
        """Write the arrays, the ids and a small JSON file, whole or not at all."""
        with write_folder(folder) as temporary:
            for name in _ARRAYS:
                np.save(temporary / f"{name}.npy", getattr(self, name), allow_pickle=False)
            self.users.write(temporary / "users.arrow")
            self.items.write(temporary / "items.arrow")
            write_json(temporary / "interactions.json", {"timed": self.timed})

    @staticmethod
    def read(folder: Path) -> Interactions:
        """Map the folder written by `write`. Raises StoreError where a part is missing or of another kind."""
        arrays = {name: _map_array(folder / f"{name}.npy", dtype) for name, dtype in _ARRAYS.items()}
        try:
            timed = bool(read_json(folder / "interactions.json")["timed"])
            users, items = IdMap.read(folder / "users.arrow"), IdMap.read(folder / "items.arrow")
            return Interactions(users, items, timed=timed, **arrays)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{folder} does not hold interactions ({error})") from error


def _map_array(path: Path, dtype: Any) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # not `np.load`, which opens archives too
        if array.dtype != dtype or array.ndim != 1:
            raise ValueError(f"{array.dtype} {array.shape}, expected {np.dtype(dtype)} [n]")
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not an array of interactions ({error})") from error
    return array
