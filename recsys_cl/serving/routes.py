"""The lookups of the service: what a request brings is checked against the limits, and answered by `answers.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from recsys_cl.errors import RecsysError
from recsys_cl.serving.answers import Ask, Reply, answer_history, answer_neighbors, answer_picture, answer_user
from recsys_cl.serving.bodies import NeighborsBody, NeighborsQuery, PictureQuery, RecommendBody, UserQuery
from recsys_cl.serving.problems import ProblemError, explain_error
from recsys_cl.serving.replies import Answers, Batch
from recsys_cl.serving.web import Asked, ItemId, Route, UserId, need


def get_neighbors(asked: Asked, item_id: ItemId, query: NeighborsQuery) -> Reply:
    """The items nearest to one, by who touches them or by how they look."""
    return _find_neighbors(asked, item_id, query)


def get_recommendations(asked: Asked, user_id: UserId, query: UserQuery) -> Reply:
    """The best items for a known user."""
    asked.service.limits.check_k(query.k)
    return answer_user(asked.live, user_id, Ask(query.k, query.filters, query.exclude_seen, query.why))


def post_recommend(asked: Asked, body: RecommendBody) -> Reply:
    """The best items for somebody with a history, who may be unknown, or for a known user."""
    return _recommend(asked, body)


def post_batch_recommend(asked: Asked, bodies: list[RecommendBody]) -> list[Reply]:
    """As `POST /recommend`, for each of a list: a list of answers, or of problems, in the same order."""
    asked.service.limits.check_batch(len(bodies))
    return [_try(partial(_recommend, asked, body)) for body in bodies]


def post_batch_neighbors(asked: Asked, bodies: list[NeighborsBody]) -> list[Reply]:
    """As `GET /items/{item_id}/neighbors`, for each of a list: answers, or problems, in the same order."""
    asked.service.limits.check_batch(len(bodies))
    return [_try(partial(_find_neighbors, asked, body.item_id, body)) for body in bodies]


def post_picture(asked: Asked, query: PictureQuery, picture: bytes) -> Reply:
    """The items nearest to a picture that is sent."""
    need(asked.live.pictured, "the release has no pictures")
    asked.service.limits.check_k(query.k)
    ask = Ask(query.k, query.filters, by=query.by)
    return answer_picture(asked.live, picture, ask, asked.service.limits)


ROUTES = (
    Route("GET", "/items/{item_id}/neighbors", get_neighbors, Answers, (404, 422)),
    Route("GET", "/users/{user_id}/recommendations", get_recommendations, Answers, (404, 422)),
    Route("POST", "/recommend", post_recommend, Answers, (404, 422)),
    Route("POST", "/batch/recommend", post_batch_recommend, Batch, (422,)),
    Route("POST", "/batch/neighbors", post_batch_neighbors, Batch, (422,)),
    Route("POST", "/images/neighbors", post_picture, Answers, (404, 415, 422)),
)


def _find_neighbors(asked: Asked, item_id: str, given: NeighborsQuery | NeighborsBody) -> Reply:
    if given.by == "image":
        need(asked.live.pictured, "the release has no pictures")
    asked.service.limits.check_k(given.k)
    ask = Ask(given.k, given.filters, given.exclude_seen, given.why, given.by)
    return answer_neighbors(asked.live, item_id, ask)


def _recommend(asked: Asked, body: RecommendBody) -> Reply:
    asked.service.limits.check_k(body.k)
    ask = Ask(body.k, body.filters, body.exclude_seen, body.why)
    if body.user_id is not None:
        return answer_user(asked.live, body.user_id, ask)
    history = body.history or []
    asked.service.limits.check_history(len(history))
    return answer_history(asked.live, history, body.weights, ask)


def _try(answer: Callable[[], Reply]) -> dict[str, Any]:
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
