"""Filters of an answer: come in as ids and attribute values, go out as the rows of the catalog that may be answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsys_cl.catalog import Catalog
from recsys_cl.errors import InputError
from recsys_cl.ids import IdMap


@dataclass(frozen=True)
class Filters:
    """What may be answered: only items of `allow` (None: any), none of `deny`, and for each attribute of `where` only
    items that have one of its values, as the catalog spells it. All of them hold at once; an empty list of `allow`, or
    of values, lets nothing through. Ids that the catalog lacks are ignored: they could not be answered anyway."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def everything(self) -> bool:
        """Whether nothing is asked for, so that every item may be answered."""
        return self.allow is None and not self.deny and not self.where


ANY = Filters()
"""Every item may be answered."""


def parse_where(conditions: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`name=value`, …, as `Filters.where`: the name ends at the first `=`; a name that comes again adds a value.

    Raises InputError for a condition without `=` or without a name.
    """
    found: dict[str, tuple[str, ...]] = {}
    for condition in conditions:
        name, sign, value = condition.partition("=")
        if not sign or not name:
            raise InputError(
                f"the condition {condition[:80]!r} names no attribute", "name=value, such as category=shoes"
            )
        found[name] = (*found.get(name, ()), value)
    return found


def find_allowed(catalog: Catalog, filters: Filters, items: IdMap | None = None) -> NDArray[np.bool_] | None:
    """Which items may be answered [n_items], or None where all may.

    items: those that are asked for, where they are others than the catalog's; what the catalog lacks has no attribute.
    Raises InputError for an attribute that the catalog has not, naming those that it has. Memory: a byte an item.
    """
    if filters.everything:
        return None
    own = catalog.items if items is None else items
    allowed = np.full(len(own), filters.allow is None)
    if filters.allow is not None:
        allowed[_find_known(own, filters.allow)] = True
    allowed[_find_known(own, filters.deny)] = False
    if filters.where:
        matching = _match_attributes(catalog, filters.where)
        if items is not None:
            rows = catalog.items.find_rows(items.to_series())
            matching = (rows >= 0) & matching[rows]
        allowed &= matching
    return allowed


def _find_known(items: IdMap, ids: tuple[str, ...]) -> NDArray[np.int64]:
    rows = items.find_texts(ids)
    return rows[rows >= 0]


def _match_attributes(catalog: Catalog, where: Mapping[str, tuple[str, ...]]) -> NDArray[np.bool_]:
    matching = np.ones(len(catalog), dtype=np.bool_)
    for name, values in where.items():
        matching &= catalog.get_attribute(name).is_in(list(values)).fill_null(False).to_numpy()
    return matching
