"""Problems: every error of ours has its status, says what to do, and keeps what went wrong inside to itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_cl import errors
from recsys_cl.errors import RecsysError
from recsys_cl.serving.problems import Problem, ProblemError, explain_error, explain_fault, say_busy

SECRET = "/srv/where it lies"
ERRORS: list[tuple[RecsysError, int, str]] = [
    (errors.UnknownIdError("item", "i1", SECRET, "did you mean 'i2'?"), 404, "unknown-item"),
    (errors.UnknownIdError("user", "u1", SECRET), 404, "unknown-user"),
    (errors.PictureError("too_many_bytes", SECRET, "fewer"), 413, "picture"),
    (errors.PictureError("too_many_pixels", SECRET, "fewer"), 413, "picture"),
    (errors.PictureError("truncated", SECRET, "a whole one"), 422, "picture"),
    (errors.InputError(SECRET, "at most 60", "ask for fewer"), 422, "out-of-bounds"),
    (errors.SealError("index.faiss", SECRET, "another"), 500, "fault"),
    (errors.MissingExtraError("serve", SECRET), 500, "fault"),
    (errors.RefusedError("gate", [SECRET]), 500, "fault"),
    (errors.ConfigError(SECRET), 500, "fault"),
    (errors.LogError(SECRET), 500, "fault"),
    (errors.StoreError(SECRET), 500, "fault"),
    (errors.BusyError(SECRET), 500, "fault"),
    (errors.UnreachableError(SECRET), 500, "fault"),
    (errors.InterruptedRunError(SECRET), 500, "fault"),
    (RecsysError(SECRET), 500, "fault"),
]


@pytest.mark.parametrize(("error", "status", "kind"), ERRORS)
def test_an_error_that_the_asker_can_mend_is_told_and_a_fault_is_not(
    error: RecsysError, status: int, kind: str
) -> None:
    found = explain_error(error).dump()
    assert (found["status"], found["type"]) == (status, f"urn:recsys-cl:problem:{kind}")
    if status == 500:
        assert found == explain_fault().dump()
        assert SECRET not in str(found)
    else:
        assert found["detail"] == str(error)
    assert found.get("reason") == getattr(error, "reason", None)


def test_no_kind_of_error_is_left_out() -> None:
    """A new one is to be given its status above; MovedError is of publishing, and takes a store."""
    judged = {type(error) for error, _, _ in ERRORS}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RecsysError)]
    assert set(kinds) == judged | {errors.MovedError}


# The first text of all takes seconds where the tables of characters are not made yet.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(st.characters(exclude_categories=())),
    st.sampled_from([(404, "Not Found"), (500, "Internal Server Error"), (503, "Service Unavailable")]),
    st.fixed_dictionaries({}, optional={"reason": st.text(max_size=20), "errors": st.lists(st.integers(), max_size=5)}),
)
def test_any_text_is_sent_as_ascii_and_read_back(detail: str, status: tuple[int, str], more: dict[str, Any]) -> None:
    problem = Problem(status[0], "some", detail, {"retry-after": "1"}, more)
    body = problem.encode()
    assert body.isascii()
    found = json.loads(body)
    assert list(found)[:4] == ["type", "title", "status", "detail"]
    usual = {"type": "urn:recsys-cl:problem:some", "title": status[1], "status": status[0]}
    assert found == usual | {"detail": found["detail"]} | more, "the headers are not in the body"
    assert found["detail"].encode("utf-16", "surrogatepass") == detail[:2000].encode("utf-16", "surrogatepass")


@pytest.mark.parametrize("n", [1999, 2000, 2001, 1_000_000])
def test_a_text_comes_back_up_to_two_thousand_characters(n: int) -> None:
    assert json.loads(Problem(422, "some", "é" * n).encode())["detail"] == "é" * min(n, 2000)


@pytest.mark.parametrize("seconds", [1, 30])
def test_who_comes_too_early_is_told_when_to_come_again(seconds: int) -> None:
    problem = say_busy("all are at work", seconds)
    assert (problem.status, problem.headers) == (503, {"retry-after": str(seconds)})
    assert problem.detail == f"all are at work; ask again in {seconds} s"
    assert [say_busy("x", 1).kind, say_busy("x", 1, "drawing").kind] == ["busy", "drawing"]


def test_a_raised_problem_is_logged_by_its_kind_alone() -> None:
    problem = Problem(404, "not-found", SECRET)
    with pytest.raises(ProblemError) as caught:
        raise ProblemError(problem)
    assert caught.value.problem is problem
    assert str(caught.value) == "not-found"
