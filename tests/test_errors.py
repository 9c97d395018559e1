"""Errors say what was found, what was expected and what to do, and carry the same as attributes."""

from __future__ import annotations

import re

import pytest

from recsys_cl import errors
from recsys_cl.errors import (
    InputError,
    InterruptedRunError,
    MissingExtraError,
    RecsysError,
    RefusedError,
    SealError,
    StoreError,
    UnknownIdError,
)

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("found",), "found"),
        (("found", "wanted"), "found; expected wanted"),
        (("found", "", "do"), "found; do"),
        (("found", "wanted", "do"), "found; expected wanted; do"),
    ],
)
def test_a_message_has_the_parts_that_were_given(parts: tuple[str, ...], message: str) -> None:
    error = RecsysError(*parts)
    assert str(error) == message
    assert (error.found, error.expected, error.remedy) == (*parts, "", "")[:3]


def test_every_error_is_drawn_in_the_tree_and_has_the_exit_code_of_the_command_line() -> None:
    drawn = re.findall(r"^\W*(\w+Error) ", errors.__doc__ or "", flags=re.MULTILINE)
    assert drawn == [kind.__name__ for kind in ALL]
    assert all(issubclass(kind, RecsysError) for kind in ALL)
    codes = {kind.__name__: kind.exit_code for kind in ALL}
    assert {name for name, code in codes.items() if code != 2} == {"RefusedError", "InterruptedRunError"}
    assert codes["RefusedError"] == 1
    assert codes["InterruptedRunError"] == 130


def test_what_a_user_gave_wrong_is_caught_as_one_kind() -> None:
    given = {kind.__name__ for kind in ALL if issubclass(kind, InputError)}
    names = {"InputError", "ConfigError", "LogError", "UnreachableError", "UnknownIdError", "StoreError", "SealError"}
    names |= {"PictureError", "MovedError", "BusyError"}
    assert given == names
    assert issubclass(SealError, StoreError)
    assert not issubclass(InterruptedRunError, KeyboardInterrupt)


def test_the_values_of_an_error_are_its_attributes() -> None:
    unknown = UnknownIdError("item_id", "ä'b", "r1", "look again")
    assert (unknown.kind, unknown.unknown_id, unknown.release) == ("item_id", "ä'b", "r1")
    assert str(unknown) == 'no item_id "ä\'b" in release r1; look again'
    seal = SealError("index.faiss", "3 bytes", "4 bytes", "publish again")
    assert seal.part == "index.faiss"
    assert str(seal) == "index.faiss: 3 bytes; expected 4 bytes; publish again"
    missing = MissingExtraError("train", "torch")
    assert (missing.extra, missing.missing) == ("train", "torch")
    assert str(missing).endswith("pip install 'recsys_cl[train]'")
    refused = RefusedError("gate", ["too low: 0.1", "too few: 3"])
    assert refused.reasons == ["too low: 0.1", "too few: 3"]
    assert str(refused) == "gate: too low: 0.1; too few: 3"
