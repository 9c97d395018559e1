"""What stands before every request of the service (plain ASGI): its token, its size, its time, how many there are; and
after it, one line of the log and the figures.

Neither ids, nor paths, nor tokens are kept or logged: a request is known by the template of its route.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_cl.serving.limits import Limits
from recsys_cl.serving.metrics import RequestFigures
from recsys_cl.serving.problems import PROBLEM_JSON, Problem, ProblemError, explain_fault, say_busy

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH = "/health"
_UNCOUNTED = {HEALTH, "/ready", "/metrics"}  # answered however many are running: they take no thread
_GONE = 499  # whoever asked has hung up: the number that others give it
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_MOST_DROPPED = 16 << 20  # bytes beyond the bound
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


@dataclass(frozen=True)
class Line:
    """A request in the log. fault: the class of an error of ours and the place in the code, nothing of its text."""

    method: str
    route: str
    status: int
    seconds: float
    fault: str | None = None


class Token:
    """A token that requests must bring; only its hash is kept."""

    def __init__(self, token: bytes) -> None:
        self._hash = hashlib.sha256(token).digest()

    def fits(self, authorization: bytes) -> bool:
        """Whether a header `Bearer TOKEN` brings it; takes as long for any token of a length."""
        scheme, _, given = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(hashlib.sha256(given.strip()).digest(), self._hash)


@dataclass(frozen=True)
class Access:
    """Who may ask. token: what requests must bring, None for nothing; open_paths: those that need none; local: only
    requests that were sent to a name of this machine, for a page from elsewhere can have its own name lead here."""

    token: Token | None = None
    open_paths: frozenset[str] = frozenset({HEALTH})
    local: bool = False

    def check(self, path: str, headers: list[tuple[bytes, bytes]]) -> Problem | None:
        """Why a request may not be answered, or None."""
        if self.local and not all(_is_here(value) for name, value in headers if name == b"host"):
            return _OTHER_NAME
        if self.token is None or path in self.open_paths:
            return None
        given = [value for name, value in headers if name == b"authorization"]
        return None if len(given) == 1 and self.token.fits(given[0]) else _ASK_TOKEN


class Guard:
    """The service with its bounds."""

    def __init__(
        self,
        app: App,
        limits: Limits,
        figures: RequestFigures,
        log: Callable[[Line], None],
        access: Access,
    ) -> None:
        self._app, self._limits, self._figures, self._log = app, limits, figures, log
        self._access = access
        self.n_running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP is none of ours."""
        if scope["type"] != "http":
            raise ValueError(f"a request of type {scope['type']}, expected http")
        start = time.perf_counter()
        # As it was sent: an id with an encoded slash stays one part of its path.
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        scope["path"] = raw.decode("ascii", "replace")
        scope["fastapi.telemetry"] = None  # it would give paths to what the environment configures
        reply = _Reply(send)
        try:
            await self._answer(scope, receive, reply)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unmatched")
            line = Line(method, route, reply.status or _GONE, time.perf_counter() - start, reply.fault)
            self._figures.count(line.method, line.route, line.status, line.seconds)
            self._log(line)

    async def _answer(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        path = scope["path"]
        problem = self._access.check(path, scope["headers"])
        if problem is not None:
            await reply.refuse(problem)
            return
        if path in _UNCOUNTED:
            await self._run(scope, receive, reply)
            return
        if self.n_running >= self._limits.most_running:
            await reply.refuse(say_busy(f"{self.n_running} requests are being answered, as many as may be", 1))
            return
        self.n_running += 1
        task = asyncio.ensure_future(self._run(scope, receive, reply))
        task.add_done_callback(self._leave)
        try:
            # A thread cannot be stopped: what is too slow is answered for, and counts as running until it ends.
            done, _ = await asyncio.wait({task}, timeout=self._limits.most_seconds)
            if not done:
                await reply.refuse(reply.verdict or _explain_slow(reply.read, self._limits.most_seconds))
        finally:
            reply.closed = True
            task.cancel()

    def _leave(self, task: asyncio.Future[None]) -> None:
        self.n_running -= 1
        if not task.cancelled():
            task.exception()  # it was told of: what `_run` lets through comes of a connection that is gone

    async def _run(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        try:
            await self._app(scope, await self._read(scope, receive, reply), reply)
        except ProblemError as error:
            await reply.refuse(error.problem)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            reply.fault = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            await reply.refuse(explain_fault())

    async def _read(self, scope: Scope, receive: Receive, reply: _Reply) -> Receive:
        """Read the whole body, bounded whatever its head says; gives what gives it again.

        Some of what is too much is read and dropped: whoever still sends would not hear the answer.
        """
        names = {name: value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")}
        most, size = self._limits.most_body_bytes, 0
        said = names.get(b"content-length", b"0")
        if said.isdigit() and int(said[:20]) > _MOST_DROPPED + most:
            raise ProblemError(_explain_large(most))
        chunks: list[bytes] = []
        more = bool(names)
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise asyncio.CancelledError  # whoever asked is gone
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            if size <= most:
                chunks.append(chunk)
            else:
                chunks, reply.verdict = [], _explain_large(most)
            if size > _MOST_DROPPED + most:
                break
        if reply.verdict is not None:
            reply.read = not more
            raise ProblemError(reply.verdict)
        reply.read = True
        body: list[Message] = [{"type": "http.request", "body": b"".join(chunks), "more_body": False}]

        async def replay() -> Message:
            return body.pop() if body else await receive()

        return replay


class _Reply:
    """Where answers go: adds headers, remembers the status, and lets nothing through once it is closed."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.fault: str | None = None
        self.closed = self.read = False
        self.verdict: Problem | None = None  # known while the body still comes

    async def __call__(self, message: Message) -> None:
        if self.closed:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, unless an answer has begun; one to a body that was not read ends the connection."""
        if self.status or self.closed:
            return
        body = problem.encode()
        headers = {"content-type": PROBLEM_JSON, "content-length": str(len(body))} | dict(problem.headers)
        if not self.read:
            headers["connection"] = "close"
        encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": problem.status, "headers": encoded})
        await self({"type": "http.response.body", "body": body})


_ASK_TOKEN = Problem(
    401,
    "token",
    "this service asks for its token, which was missing or another; send the header: Authorization: Bearer TOKEN",
    {"www-authenticate": "Bearer"},
)


_OTHER_NAME = Problem(
    403,
    "host",
    "without a token only requests to a name of this machine are answered; ask at localhost, start the service with a "
    "token, or with --allow-anonymous",
)


def _is_here(host: bytes) -> bool:
    """Whether a host header names this machine: localhost, or a loopback address, with or without a port."""
    name = re.sub(r":\d*$", "", host.decode("latin-1").lower())
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _explain_large(most: int) -> Problem:
    return Problem(413, "too-large", f"the body is too large; expected at most {most} bytes; send less at a time")


def _explain_slow(read: bool, seconds: float) -> Problem:
    if not read:
        return Problem(408, "slow-body", f"the body did not come within {seconds:g} s; send it faster, or less of it")
    return say_busy(f"the answer was not there within {seconds:g} s", 1, "too-slow")
