"""The process of the service: comes in a store and where to listen, goes out a server that answers until it is told to
end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from threadpoolctl import threadpool_limits
from uvicorn.protocols.http.h11_impl import H11Protocol

from recsys_cl.errors import ConfigError
from recsys_cl.serving.app import create_app, list_page
from recsys_cl.serving.diffs import Diffs
from recsys_cl.serving.guard import HEALTH, Access, Guard, Line, Token
from recsys_cl.serving.holder import Holder
from recsys_cl.serving.limits import Limits
from recsys_cl.serving.metrics import RequestFigures
from recsys_cl.serving.problems import PROBLEM_JSON, Problem
from recsys_cl.serving.web import Service

_GRACE_SECONDS = 3  # for requests that run when the service is told to end
_KEEP_ALIVE_SECONDS = 30


@dataclass(frozen=True)
class Address:
    """Where to listen, and who may ask. token_file: a file with the token that requests bring; allow_anonymous: without
    one, others than this machine may ask, too."""

    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    allow_anonymous: bool = False


def serve(store: Path, address: Address, limits: Limits, say: Callable[[dict[str, Any]], None], log: bool) -> None:
    """Answer requests until SIGTERM or ctrl-C.

    say: told once where, when the service is ready (`{"url", "release"}`), and with `log` of each request. Raises
    ConfigError for an address that cannot be had, or is open to all without a token; StoreError without a release.
    """
    token = None if address.token_file is None else read_token(address.token_file)
    if token is None and not address.allow_anonymous and not _is_loopback(address.host):
        remedy = "give --token-file FILE, or --allow-anonymous where a proxy asks who they are"
        raise ConfigError(f"{address.host} is open to other machines, and there is no token", remedy=remedy)
    with listen(address.host, address.port) as listener, threadpool_limits(1, user_api="blas"):
        holder, figures = Holder(store), RequestFigures()
        app = create_app(Service(holder, limits, figures, Diffs()))

        def tell(line: Line) -> None:
            if log or line.fault is not None:
                say(_describe_line(line))

        # The page holds nothing of a release: it asks whoever opens it for the token.
        local = token is None and not address.allow_anonymous
        access = Access(token, frozenset({HEALTH, *list_page()}), local)
        guard = Guard(app, limits, figures, tell, access)
        config = uvicorn.Config(
            guard,
            http=type("_BoundProtocol", (_Protocol,), {"head_seconds": limits.most_seconds}),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # its lines hold paths
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        holder.start()
        try:
            ready = {"url": url, "release": holder.live.release.version}
            _Server(config, limits.n_threads, lambda: say(ready)).run(sockets=[listener])
        finally:
            holder.stop()


def read_token(path: Path) -> Token:
    """The token in a file: its first line. Raises ConfigError where it has none; warns where others may read it."""
    expected = "a file with the token on its first line"
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            print(f"recsys-cl: others may read {path}; mend it with: chmod 600 {path}", file=sys.stderr)  # noqa: T201
        first = path.read_bytes().split(b"\n")[0].strip()
    except OSError as error:
        raise ConfigError(f"the token in {path} cannot be read ({error.strerror})", expected) from error
    if not first or any(byte <= 0x20 or byte >= 0x7F for byte in first):
        raise ConfigError(f"{path} holds no token", f"{expected}, printable ASCII without blanks")
    return Token(first)


class _Server(uvicorn.Server):
    """Says when it is ready, bounds the threads, and ends on a signal as on a wish: without passing it on."""

    def __init__(self, config: uvicorn.Config, n_threads: int, say_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._n_threads, self._say_ready = n_threads, say_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = self._n_threads
        await super().startup(sockets=sockets)
        self._say_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGTERM and ctrl-C end the service."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Protocol(H11Protocol):
    """Hangs up on whoever does not send the head of a request in time, once connected or once it has begun."""

    head_seconds = 10.0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before or (self.cycle is not None and not self.cycle.response_complete):
            self._calm()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._calm()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # it would be told in plain text
        """Refuse what is no HTTP, or has a head of more than 64 KiB."""
        problem = Problem(400, "http", "the head of the request is no HTTP/1.1, or too long; send long lists in a body")
        body = problem.encode()
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: {PROBLEM_JSON}\r\nconnection: close\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode("ascii") + body)
        self.transport.close()

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self.head_seconds, self._hang_up)

    def _calm(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hang_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def describe_event(event: dict[str, Any]) -> str:
    """What `serve` says, as a line for people."""
    if "url" in event:
        return f"release {event['release']} answers at {event['url']}"
    fault = f" {event['fault']}" if "fault" in event else ""
    return f"{event['method']} {event['route']} {event['status']} {event['ms']} ms{fault}"


def _describe_line(line: Line) -> dict[str, Any]:
    known = {"method": line.method, "route": line.route, "status": line.status}
    known |= {"ms": round(1000 * line.seconds, 2)}
    return known if line.fault is None else known | {"fault": line.fault}


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    return all(ipaddress.ip_address(found[4][0]).is_loopback for found in _resolve(host, 0))


def _resolve(host: str, port: int) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"the host {host!r} is unknown ({error})", "an address or a name of this machine") from None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0: one that is free. What it accepts sends each part of an answer at once: asyncio
    sees to that for sockets that it makes itself alone, and a client that keeps its connection would wait 40 ms for the
    second part. Raises ConfigError where the host is unknown or the port cannot be had."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"the port is {port}", "0 to 65535; 0 for any that is free")
    family, _, _, _, address = _resolve(host, port)[0]
    try:
        listener = socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        remedy = "stop what listens there, or give --port another; 0 takes one that is free"
        raise ConfigError(f"{host} port {port} cannot be had ({error.strerror})", remedy=remedy) from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
