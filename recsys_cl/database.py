"""A database: comes in as a SQLAlchemy URL, goes out as an open connection whose errors tell no secret.

`${NAME}` in the URL is read from the environment, so that no password need be written down; no message shows one.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

import sqlalchemy as sa

from recsys_cl.config import hide_password
from recsys_cl.errors import ConfigError, InputError, UnreachableError

# Classes and codes of SQLSTATE: the connection, a deadlock, too little room, a lock, the server going down, its disk.
_PASSING_STATES = ("08", "40", "53", "55P03", "57P0", "58")
_PASSING_SQLITE = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED: the low byte of its codes
_DRIVERS = "postgresql+psycopg://, mysql+pymysql://, sqlite:///FILE, or another that SQLAlchemy knows"


@dataclass(frozen=True)
class Database:
    """An open connection; shown: its URL without passwords."""

    connection: sa.Connection
    shown: str
    _secrets: Sequence[str] = field(repr=False)

    def explain(self, error: BaseException) -> str:
        """What the database or its driver says, on one line of at most 300 signs, without passwords."""
        return _explain(error, self._secrets)


@contextlib.contextmanager
def connect(url: str, kind: type[InputError]) -> Iterator[Database]:
    """Connect, and close again on leaving. Raises ConfigError for a variable that is not set, UnreachableError for a
    database that does not answer or is locked, `kind` for a URL, a driver or a file that cannot be used."""
    shown = hide_password(url)
    full = expand_variables(url)
    engine = _make_engine(full, shown, kind)
    secrets = _find_secrets(full)
    try:
        try:
            connection = engine.connect()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            # a file that is missing stays so
            failure = UnreachableError if engine.url.host or can_pass(error) else kind
            raise failure(
                f"cannot connect to {shown} ({_explain(error, secrets)})", remedy="check host, port, name and password"
            ) from None
        with connection:
            yield Database(connection, shown, secrets)
    finally:
        engine.dispose()


def can_pass(error: BaseException) -> bool:
    """Whether what SQLAlchemy raised may not be so later: a lock, a server that is full or goes down, a connection that
    broke. A query that is wrong stays wrong."""
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _PASSING_SQLITE
    state = str(getattr(cause, "sqlstate", None) or "")
    return error.connection_invalidated or state.startswith(_PASSING_STATES)


def expand_variables(url: str) -> str:
    """The URL with each `${NAME}` replaced from the environment. Raises ConfigError where a variable is not set."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"the URL names ${{{name}}}, which is not set", remedy=f"set it: export {name}=…")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", replace, url)


def _make_engine(full: str, shown: str, kind: type[InputError]) -> sa.Engine:
    # SQLAlchemy below 2.1 takes the bare name for psycopg2.
    full = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", full)
    try:
        return sa.create_engine(full, poolclass=sa.pool.NullPool)
    except sa.exc.NoSuchModuleError:
        raise kind(f"no driver for {shown}", f"one of: {_DRIVERS}") from None
    except ModuleNotFoundError as error:
        raise kind(
            f"{shown} needs the package {error.name!r}, which is not installed",
            _DRIVERS,
            "install it, or name another driver in the URL",
        ) from None
    except (sa.exc.ArgumentError, ValueError):
        raise kind(f"{shown} is not a database URL", f"one of: {_DRIVERS}") from None


def _find_secrets(full: str) -> list[str]:
    """What `hide_password` takes out of a URL, as it is and decoded: a driver may repeat it; its message must not."""
    parts = [re.escape(part) for part in hide_password(full).split("***")]
    found = re.fullmatch("(.*?)".join(parts), full, flags=re.DOTALL)
    return [text for secret in (found.groups() if found else ()) if secret for text in (secret, unquote_plus(secret))]


def _explain(error: BaseException, secrets: Sequence[str]) -> str:
    cause: Any = getattr(error, "orig", None) or error
    text = " ".join(str(cause).split())
    for secret in secrets:
        text = text.replace(secret, "***")
    return text[:300]
