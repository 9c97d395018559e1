"""Unknown ids: suggested is what is the same but for how it was typed, then what looks alike and stands nearby."""

from __future__ import annotations

import difflib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recsys_cl.ids import IdMap
from recsys_cl.serving.suggest import explain_unknown, suggest_ids

TEXTS = st.text("0aA ", min_size=1, max_size=4)


def find_same(known: set[str], unknown: str) -> set[str]:
    """Those that differ in case, blanks around or leading zeros alone."""
    bare = unknown.strip()
    tail = bare.lstrip("0")
    cases = {bare, bare.lower(), bare.upper(), bare.title()}
    zeros = {one for one in known if one.lstrip("0") == tail and len(one) <= len(tail) + 8}
    return (cases & known | zeros) - {unknown}


@settings(deadline=None, max_examples=300)
@given(known=st.sets(TEXTS, max_size=40), unknown=TEXTS, n=st.integers(1, 5))
def test_of_a_small_catalog_the_same_come_first_and_then_all_that_look_alike(
    known: set[str], unknown: str, n: int
) -> None:
    assume(unknown not in known)
    same, ids = find_same(known, unknown), IdMap.build(known)
    found = suggest_ids(ids, unknown, 50)
    assert set(found[: len(same)]) == same
    alike = difflib.get_close_matches(unknown, known, n=50, cutoff=0.7)
    assert found[len(same) :] == [one for one in alike if one not in same]
    assert suggest_ids(ids, unknown, n) == found[:n]


@pytest.mark.parametrize(
    ("known", "unknown"),
    [("ab7", "AB7"), ("AB7", "ab7"), ("Ab7", "aB7"), ("ab7", "  ab7\t"), ("ab7", "00ab7"), ("00000000ab7", "ab7")],
)
def test_what_was_typed_otherwise_is_found_among_many(known: str, unknown: str) -> None:
    ids = IdMap.build([*(f"{letter}{n}" for letter in "abcxyz" for n in range(300)), known])
    assert suggest_ids(ids, unknown)[0] == known


def test_of_a_large_catalog_fifty_before_and_fifty_behind_are_looked_at() -> None:
    rng = np.random.default_rng(0)
    drawn = {"".join(rng.choice(list("abcdé😀"), 5)) for _ in range(1500)}
    unknowns, known = sorted(drawn)[::40], sorted(drawn - set(sorted(drawn)[::40]))
    ids, n_elsewhere = IdMap.build(known), 0
    for unknown in unknowns:
        place = sum(one < unknown for one in known)
        nearby = known[max(0, place - 50) : place + 50]
        expected = difflib.get_close_matches(unknown, nearby, n=9, cutoff=0.7)
        assert suggest_ids(ids, unknown, 9) == expected
        n_elsewhere += expected != difflib.get_close_matches(unknown, known, n=9, cutoff=0.7)
    assert n_elsewhere, "the bound was met"


@pytest.mark.parametrize("unknown", ["", " ", "0", "\0", "\ud800", "i1\udfff", "😀" * 5000, "0" * 5000])
def test_strange_texts_are_answered_with_known_ids_or_none(unknown: str) -> None:
    known = [f"i{n}" for n in range(200)]
    assert set(suggest_ids(IdMap.build(known), unknown)) <= set(known)
    assert suggest_ids(IdMap.build([]), unknown) == []


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 12, 300])
@pytest.mark.parametrize("kind", ["item", "user"])
def test_ten_unknown_ids_are_named_and_the_others_counted(kind: str, n: int) -> None:
    unknown = [f"no{place:03}" for place in range(n)]
    error = explain_unknown(kind, IdMap.build(["xyz", "z"]), unknown, "r1")
    assert (error.kind, error.unknown_id, error.release) == (kind, "no000", "r1")
    assert [str(error).count(repr(one)) for one in unknown] == [1] * min(n, 10) + [0] * (n - 10)
    assert ("more" in str(error)) == (n > 10)
    assert n <= 10 or f"and {n - 10} more" in str(error)
    assert ("leave them out" in str(error)) == (n > 1)
    assert str(error).endswith(f"it has 2 {kind}s")


def test_what_was_meant_is_that_of_the_first() -> None:
    ids = IdMap.build(["007", "Case", "item-1", "item-2"])
    for unknown, meant in (("7", "'007'"), ("case", "'Case'"), ("item-3", "'item-2' or 'item-1'")):
        assert str(explain_unknown("item", ids, [unknown, "other"], "r1")).endswith(f"did you mean {meant}?")
