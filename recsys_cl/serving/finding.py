"""Finding items by their title: comes in what somebody types, goes out rows of the catalog, best first."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.catalog import TITLE, Catalog

_MOST_WORDS = 8


class Titles:
    """Titles and ids in lower case. Memory: once more that of titles and ids."""

    def __init__(self, catalog: Catalog) -> None:
        ids = catalog.items.to_series()
        self._ids = ids.str.to_lowercase()
        titles = catalog.columns.column(TITLE) if TITLE in catalog.columns.column_names else None
        self._titles = self._ids if titles is None else pl.Series(TITLE, titles, dtype=pl.String).str.to_lowercase()
        self._titles = self._titles.fill_null("")

    def find(
        self, query: str, most: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows whose title, or whose id, holds every word of the query, whatever its case, at most `most`; and scores.

        First the item whose id or title it is (score 1), then those that begin with it (.75), then those where it
        begins a word (.5), then the others (.25); within each in the order of the rows. Of a query the first 8 words
        count. allowed [n_items]: rows that may be answered, None for all.
        """
        words = query.lower().split()[:_MOST_WORDS]
        if not words:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        phrase = " ".join(words)
        hits = self._ids.str.contains(phrase, literal=True)
        in_title = pl.repeat(True, len(self._titles), eager=True)
        for word in words:
            in_title &= self._titles.str.contains(word, literal=True)
        found = (hits | in_title).to_numpy()
        rows = np.flatnonzero(found if allowed is None else found & allowed)
        titles, ids = self._titles.gather(rows), self._ids.gather(rows)
        order = np.full(len(rows), 3)
        order[titles.str.contains(f" {phrase}", literal=True).to_numpy()] = 2
        order[(titles.str.starts_with(phrase) | ids.str.starts_with(phrase)).to_numpy()] = 1
        order[((titles == phrase) | (ids == phrase)).to_numpy()] = 0
        best = np.argsort(order, kind="stable")[:most]
        return rows[best], 1 - order[best] / 4
