"""Ids that are unknown: comes in an id, goes out an error that names what may have been meant."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Sequence

from recsys_cl.errors import UnknownIdError
from recsys_cl.ids import IdMap

_NEARBY = 50  # ids before and after the place where the unknown one would stand
_MOST_NAMED = 10


def suggest_ids(ids: IdMap, unknown: str, n: int = 3) -> list[str]:
    """At most n known ids near an unknown one: the same but for case, blanks or leading zeros first, then those of
    the same beginning that look alike."""
    bare = unknown.strip()
    digits = bare.lstrip("0")
    variants = [
        bare,
        bare.lower(),
        bare.upper(),
        bare.title(),
        digits,
        *("0" * zeros + digits for zeros in range(1, 9)),
    ]
    found = [variant for variant in dict.fromkeys(variants) if variant != unknown and ids.find_row(variant) is not None]
    key = unknown.encode("utf-8", "replace")
    place = bisect.bisect_left(range(len(ids)), key, key=lambda row: ids.get_id(row).encode())
    nearby = [ids.get_id(row) for row in range(max(0, place - _NEARBY), min(len(ids), place + _NEARBY))]
    found += difflib.get_close_matches(unknown, nearby, n=n, cutoff=0.7)
    return list(dict.fromkeys(found))[:n]


def explain_unknown(kind: str, ids: IdMap, unknown: Sequence[str], release: str) -> UnknownIdError:
    """The error for ids that are not in `release`; kind is `item` or `user`, unknown holds at least one."""
    near = suggest_ids(ids, unknown[0])
    remedy = f"did you mean {' or '.join(repr(found) for found in near)}?" if near else f"it has {len(ids)} {kind}s"
    if len(unknown) > 1:
        named = ", ".join(repr(name) for name in unknown[1:_MOST_NAMED])
        more = f", and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
        remedy = f"nor {named}{more}; leave them out; {remedy}"
    return UnknownIdError(kind, unknown[0], release, remedy)
