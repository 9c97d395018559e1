"""The service as an ASGI application: comes in what requests are answered with, goes out the application, whose every
refusal is `application/problem+json`. The only module that knows the web framework; the routes are functions elsewhere.
"""

from __future__ import annotations

import inspect
import json
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from recsys_cl.errors import RecsysError
from recsys_cl.serving import about, routes
from recsys_cl.serving.bodies import InQuery
from recsys_cl.serving.guard import HEALTH
from recsys_cl.serving.metrics import TEXT
from recsys_cl.serving.problems import PROBLEM_JSON, Problem, ProblemError, explain_error, explain_fault
from recsys_cl.serving.replies import ALWAYS, describe_refusals
from recsys_cl.serving.web import BYTES, JSON, PNG, Asked, Content, Route, Service

_PAGE = Path(__file__).parent / "page"
_KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_INDEX = "index.html"
_MOST_NAMED = 5
_PICTURE = "picture"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_CONTENTS: dict[str, dict[str, Any]] = {
    BYTES: {"content": {BYTES: _BINARY}, "headers": {"release": {"schema": {"type": "string"}}}},
    PNG: {"content": {PNG: _BINARY}},
    TEXT.partition(";")[0]: {"content": {TEXT.partition(";")[0]: {"schema": {"type": "string"}}}},
}
_FORM = {"schema": {"type": "object", "properties": {"file": _BINARY["schema"]}, "required": ["file"]}}
_UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": _FORM, "image/*": _BINARY}}}
_OPEN: dict[str, dict[str, Any]] = {HEALTH: {"security": []}}
_TOKEN = {"type": "http", "scheme": "bearer", "description": "Where the service was started with --token-file."}


def create_app(service: Service) -> FastAPI:
    """The application, without the guard before it."""
    app = FastAPI(
        title="recsys_cl",
        version=version("recsys_cl"),
        openapi_url=None,  # a route of ours, so that it is refused and counted as they are
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            RecsysError: _answer_error,
            ProblemError: _answer_error,
            HTTPException: _answer_http,
            RequestValidationError: _answer_invalid,
            Exception: _answer_fault,
        },
    )
    for route in (*routes.ROUTES, *about.ROUTES):
        _add_route(app, service, route)

    async def get_openapi() -> Response:
        return _send(_describe(app), JSON)

    app.add_api_route("/openapi.json", get_openapi, include_in_schema=False)
    for address, path in list_page().items():
        _add_file(app, address, path)
    return app


def _describe(app: FastAPI) -> dict[str, Any]:
    """What the framework tells of the routes, and the token that it does not know of."""
    described = app.openapi()
    described["components"]["securitySchemes"] = {"token": _TOKEN}
    return described | {"security": [{"token": []}, {}]}


def list_page() -> dict[str, Path]:
    """The files of the web page by their addresses."""
    files = sorted(path for path in _PAGE.glob("*") if path.suffix in _KINDS)
    return {"/" if path.name == _INDEX else f"/page/{path.name}": path for path in files}


def _add_route(app: FastAPI, service: Service, route: Route) -> None:
    """Put a function at its address; the framework reads what the request brings by its parameters behind the first."""
    _, *parameters = inspect.signature(route.answer, eval_str=True).parameters.values()

    def answer(**given: Any) -> Response:  # in a thread, so that no request waits behind another's arithmetic
        return _send(route.answer(Asked(service, service.holder.live), **given), route.kind)

    async def answer_at_once(**given: Any) -> Response:
        return answer(**given)

    endpoint: Any = answer_at_once if route.quick else answer
    endpoint.__name__, endpoint.__doc__ = route.answer.__name__, route.answer.__doc__
    endpoint.__signature__ = inspect.Signature([_adapt(parameter) for parameter in parameters])
    kind = route.kind.partition(";")[0]
    refused = describe_refusals({*ALWAYS, *route.refusals})
    app.add_api_route(
        route.address,
        endpoint,
        methods=[route.method],
        response_model=route.model,
        response_class=JSONResponse if kind == JSON else Response,
        responses=refused if kind == JSON else {200: _CONTENTS[kind], **refused},
        openapi_extra=_UPLOAD if any(one.name == _PICTURE for one in parameters) else _OPEN.get(route.address),
    )
    if route.quick:  # what watches a service often asks for the head alone; the server leaves out the rest
        app.add_api_route(route.address, endpoint, methods=["HEAD"], include_in_schema=False)


def _adapt(parameter: inspect.Parameter) -> inspect.Parameter:
    """Models named `query` are of query parameters, not of the body; a picture comes as the body or in a form."""
    kind = parameter.annotation
    if parameter.name == _PICTURE:
        return parameter.replace(annotation=Annotated[bytes, Depends(_read_upload)])
    if isinstance(kind, type) and issubclass(kind, InQuery):
        return parameter.replace(annotation=Annotated[kind, Query()])
    return parameter


def _send(value: Any, kind: str) -> Response:
    """What a route gave, as it is sent."""
    if isinstance(value, Content):
        return Response(value.body, headers={"content-type": kind, **value.headers})
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body.encode(), media_type=kind, headers={"cache-control": "no-store"})


async def _read_upload(request: Request) -> bytes:
    """The picture of a form, or the whole body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=1, max_part_size=1024) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if len(files) != 1:
                raise ProblemError(Problem(422, "picture", "the form has no file; send one picture in it"))
            return await files[0].read()
    if kind.startswith("image/") or kind == BYTES:
        return await request.body()
    expected = "a picture as the body, of type image/…, or a form (multipart/form-data) with one file"
    raise ProblemError(Problem(415, "picture", f"the body is of another type; expected {expected}"))


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


async def _answer_fault(_: Request, error: Exception) -> Response:  # noqa: ARG001  # the guard hears of it after this
    """What went wrong here, which the framework would answer in plain text."""
    return _refuse(explain_fault())


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
