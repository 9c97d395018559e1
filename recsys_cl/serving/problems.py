"""Refusals of the service: comes in an error, goes out `application/problem+json` (RFC 9457) that says what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from recsys_cl.errors import InputError, PictureError, RecsysError, UnknownIdError

PROBLEM_JSON = "application/problem+json"
_MOST_DETAIL = 2_000  # characters: an id of a megabyte need not come back whole


@dataclass(frozen=True)
class Problem:
    """Why a request was refused. kind: one word for it, the end of its `type`; more: members beside the usual ones."""

    status: int
    kind: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def dump(self) -> dict[str, Any]:
        """`{"type", "title", "status", "detail", …}`."""
        named = {"type": f"urn:recsys-cl:problem:{self.kind}", "title": HTTPStatus(self.status).phrase}
        return named | {"status": self.status, "detail": self.detail[:_MOST_DETAIL]} | dict(self.more)

    def encode(self) -> bytes:
        """As JSON, in ASCII, so that no text whatever can break it."""
        return json.dumps(self.dump()).encode("ascii")


class ProblemError(Exception):
    """Raised where a request is to be answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.kind)


def explain_error(error: RecsysError) -> Problem:
    """The problem for an error of a lookup; one that the asker cannot mend is 500, without its text.

    Of those below InputError only the two here are of what was asked: the others are of the store, of a file or of how
    the service was started, whose messages may hold paths.
    """
    if isinstance(error, UnknownIdError):
        return Problem(404, f"unknown-{error.kind}", str(error))
    if isinstance(error, PictureError):
        status = 413 if error.reason in ("too_many_bytes", "too_many_pixels") else 422
        return Problem(status, "picture", str(error), more={"reason": error.reason})
    return Problem(422, "out-of-bounds", str(error)) if type(error) is InputError else explain_fault()


def explain_fault() -> Problem:
    """The problem for what went wrong here."""
    return Problem(
        500, "fault", "something went wrong here, not in the request; the log of the service names the place"
    )


def hide_place(message: str, store: Path) -> str:
    """What an error says of the parts of a store, without where the store lies."""
    for path in (store, store.resolve()):
        if path.is_absolute():
            message = message.replace(f"{path}/", "").replace(str(path), "the store")
    return message


def say_busy(detail: str, seconds: int, kind: str = "busy") -> Problem:
    """503: ask again in some seconds."""
    return Problem(503, kind, f"{detail}; ask again in {seconds} s", {"retry-after": str(seconds)})
