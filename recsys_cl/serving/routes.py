"""The lookups over HTTP: routes, checks and addresses only; see `answers.py` for what they answer.

Functions that are not `async` run in threads, so that no answer waits behind another's arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from recsys_cl.errors import RecsysError
from recsys_cl.serving import answers
from recsys_cl.serving.answers import Ask
from recsys_cl.serving.bodies import (
    Answers,
    NeighborsBody,
    NeighborsQuery,
    PictureQuery,
    RecommendBody,
    UserQuery,
)
from recsys_cl.serving.holder import Live
from recsys_cl.serving.problems import Problem, ProblemError, explain_error
from recsys_cl.serving.web import BINARY, REFUSED, ItemId, Service, UserId, need, send, take

router = APIRouter(responses=REFUSED)


@router.get("/items/{item_id}/neighbors", response_model=Answers)
def get_neighbors(request: Request, item_id: ItemId, query: Annotated[NeighborsQuery, Query()]) -> Response:
    """The items nearest to one, by who touches them or by how they look."""
    service, live = take(request)
    return send(_find_neighbors(service, live, item_id, query))


@router.get("/users/{user_id}/recommendations", response_model=Answers)
def get_recommendations(request: Request, user_id: UserId, query: Annotated[UserQuery, Query()]) -> Response:
    """The best items for a known user."""
    service, live = take(request)
    service.limits.check_k(query.k)
    ask = Ask(query.k, query.filters, query.exclude_seen, query.why)
    return send(answers.answer_user(live, user_id, ask))


@router.post("/recommend", response_model=Answers)
def post_recommend(request: Request, body: RecommendBody) -> Response:
    """The best items for somebody with a history, who may be unknown, or for a known user."""
    service, live = take(request)
    return send(_recommend(service, live, body))


@router.post("/batch/recommend")
def post_batch_recommend(request: Request, bodies: list[RecommendBody]) -> Response:
    """As `POST /recommend`, for each of a list: a list of answers, or of problems, in the same order."""
    service, live = take(request)
    service.limits.check_batch(len(bodies))
    return send([_try(partial(_recommend, service, live, body)) for body in bodies])


@router.post("/batch/neighbors")
def post_batch_neighbors(request: Request, bodies: list[NeighborsBody]) -> Response:
    """As `GET /items/{item_id}/neighbors`, for each of a list: answers, or problems, in the same order."""
    service, live = take(request)
    service.limits.check_batch(len(bodies))
    return send([_try(partial(_find_neighbors, service, live, body.item_id, body)) for body in bodies])


async def _read_upload(request: Request) -> bytes:
    """The picture of a form, or the whole body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=1, max_part_size=1024) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if len(files) != 1:
                raise ProblemError(Problem(422, "picture", "the form has no file; send one picture in it"))
            return await files[0].read()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await request.body()
    expected = "a picture as the body, of type image/…, or a form (multipart/form-data) with one file"
    raise ProblemError(Problem(415, "picture", f"the body is of another type; expected {expected}"))


_FORM = {"schema": {"type": "object", "properties": {"file": BINARY["schema"]}, "required": ["file"]}}


@router.post(
    "/images/neighbors",
    response_model=Answers,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": _FORM, "image/*": BINARY}}},
)
def post_picture(
    request: Request, query: Annotated[PictureQuery, Query()], picture: Annotated[bytes, Depends(_read_upload)]
) -> Response:
    """The items nearest to a picture that is sent."""
    service, live = take(request)
    need(live.pictured, "the release has no pictures")
    service.limits.check_k(query.k)
    return send(answers.answer_picture(live, picture, Ask(query.k, query.filters, by=query.by), service.limits))


def _find_neighbors(service: Service, live: Live, item_id: str, asked: NeighborsQuery | NeighborsBody) -> answers.Reply:
    if asked.by == "image":
        need(live.pictured, "the release has no pictures")
    service.limits.check_k(asked.k)
    ask = Ask(asked.k, asked.filters, asked.exclude_seen, asked.why, asked.by)
    return answers.answer_neighbors(live, item_id, ask)


def _recommend(service: Service, live: Live, body: RecommendBody) -> answers.Reply:
    service.limits.check_k(body.k)
    ask = Ask(body.k, body.filters, body.exclude_seen, body.why)
    if body.user_id is not None:
        return answers.answer_user(live, body.user_id, ask)
    history = body.history or []
    service.limits.check_history(len(history))
    return answers.answer_history(live, history, body.weights, ask)


def _try(answer: Callable[[], answers.Reply]) -> dict[str, Any]:
    """An answer, or the problem that there is with it; what is wrong here fails the whole batch."""
    try:
        return answer()
    except ProblemError as error:
        return error.problem.dump()
    except RecsysError as error:
        problem = explain_error(error)
        if problem.status >= 500:
            raise
        return problem.dump()
