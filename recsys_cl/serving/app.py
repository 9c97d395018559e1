"""The service as an ASGI application: comes in what requests are answered with, goes out the application, whose every
answer that is none is `application/problem+json`."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from recsys_cl.errors import RecsysError
from recsys_cl.serving import about, routes
from recsys_cl.serving.problems import PROBLEM_JSON, Problem, ProblemError, explain_error
from recsys_cl.serving.web import Service

_PAGE = Path(__file__).parent / "page"
_KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_INDEX = "index.html"
_MOST_NAMED = 5


def create_app(service: Service) -> FastAPI:
    """The application, without the guard before it."""
    app = FastAPI(
        title="recsys_cl",
        version=version("recsys_cl"),
        openapi_url=None,  # a route of ours
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            RecsysError: _answer_error,
            ProblemError: _answer_error,
            HTTPException: _answer_http,
            RequestValidationError: _answer_invalid,
        },
    )
    app.state.service = service
    app.include_router(routes.router)
    app.include_router(about.router)
    for address, path in list_page().items():
        _add_file(app, address, path)
    return app


def list_page() -> dict[str, Path]:
    """The files of the web page by their addresses."""
    files = sorted(path for path in _PAGE.glob("*") if path.suffix in _KINDS)
    return {"/" if path.name == _INDEX else f"/page/{path.name}": path for path in files}


def _add_file(app: FastAPI, address: str, path: Path) -> None:
    content, kind = path.read_bytes(), _KINDS[path.suffix]

    async def get_file() -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    app.add_api_route(address, get_file, include_in_schema=False)


async def _answer_error(_: Request, error: Exception) -> Response:
    """Errors of a lookup; what is wrong here goes on to the guard, which logs the place."""
    problem = error.problem if isinstance(error, ProblemError) else None
    if isinstance(error, RecsysError):
        problem = explain_error(error)
    if problem is None or problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        raise error
    return _refuse(problem)


async def _answer_http(_: Request, error: Exception) -> Response:
    """What the framework refuses by itself: an unknown address, another method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    details = {
        404: ("address", "there is nothing at this address; /openapi.json lists those there are"),
        405: ("method", "this address takes another method; the header allow names it"),
        400: ("body", "the body cannot be read; send valid JSON, or a form as its content-type says"),
    }
    kind, detail = details.get(error.status_code, ("request", str(error.detail)))
    return _refuse(Problem(error.status_code, kind, detail, error.headers or {}))


async def _answer_invalid(_: Request, error: Exception) -> Response:
    """A parameter or a member of the body that is none, or out of its bounds: each by its place, without its value."""
    assert isinstance(error, RequestValidationError)
    found: list[dict[str, Any]] = [
        {"where": ".".join(map(str, one["loc"]))[:200], "problem": one["msg"]} for one in error.errors()[:_MOST_NAMED]
    ]
    detail = "; ".join(f"{one['where']}: {one['problem']}" for one in found)
    return _refuse(Problem(422, "invalid", detail, more={"errors": found}))


def _refuse(problem: Problem) -> Response:
    return Response(problem.encode(), problem.status, dict(problem.headers), PROBLEM_JSON)
