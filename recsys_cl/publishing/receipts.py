"""What a store remembers of erasures: comes in whom and what was erased, goes out a receipt that names nobody.

`erasures/` holds a key of the store, a receipt for each erasure, and `pending.json` while one is not finished. A user
is told by a hash under that key (HMAC with SHA-256): who has id and key can ask, nobody can read ids from it.
`retraining_due.json` says since when releases hold what was learned with the events of users who are gone.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from recsys_cl.errors import StoreError
from recsys_cl.files import TEMPORARY, dump_json, hash_text, read_json, sync_path, write_json

FOLDER, KEY, PENDING = "erasures", "key", "pending.json"
DUE = "retraining_due.json"
_KEY_BYTES = 32


@dataclass(frozen=True)
class Receipt:
    """One erasure. time: of its beginning, ISO 8601. users: their keyed hashes. releases: each that held them, or
    followed one that did, and its successor. runs, sources, exports: those rewritten. logs, outside: raw logs, and
    exports outside the store, that it could not reach. retraining: whether a release held them. found: files that name
    one of them in the end, of n_checked."""

    time: str
    users: list[str]
    releases: dict[str, str] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    retraining: bool = False
    found: list[str] = field(default_factory=list)
    n_checked: int = 0

    def join(self, earlier: Receipt | None) -> Receipt:
        """This and what an erasure that was interrupted had begun, as one."""
        if earlier is None:
            return self
        lists = {name: sorted({*getattr(self, name), *getattr(earlier, name)}) for name in _LISTS}
        releases = earlier.releases | self.releases
        retraining = self.retraining or earlier.retraining
        joined = replace(self, time=earlier.time, releases=releases, retraining=retraining)
        return replace(joined, **lists)  # type: ignore[arg-type]

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


_LISTS = ("users", "runs", "sources", "exports", "logs", "outside")


def read_key(store: Path) -> bytes | None:
    """The key of a store, None where nobody was erased from it yet. Raises StoreError where it is damaged."""
    path = store / FOLDER / KEY
    if not path.exists():
        return None
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise StoreError(f"{path} is not a key", f"{_KEY_BYTES} bytes in hexadecimal", "restore it from a copy")
    return key


def make_key(store: Path) -> bytes:
    """A new key for a store, which its owner alone may read. Raises OSError."""
    path, key = store / FOLDER / KEY, secrets.token_bytes(_KEY_BYTES)
    temporary = path.with_name(f"{TEMPORARY}{KEY}")
    path.parent.mkdir(exist_ok=True)
    temporary.unlink(missing_ok=True)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(key.hex())
        sync_path(temporary)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    return key


def hash_user(key: bytes, user: str) -> str:
    """The keyed hash of an id."""
    return hmac.new(key, user.encode(), "sha256").hexdigest()


def read_pending(store: Path) -> Receipt | None:
    """The erasure that was begun and not finished, or None. Raises StoreError where it cannot be read."""
    path = store / FOLDER / PENDING
    return _read_receipt(path) if path.exists() else None


def write_pending(store: Path, receipt: Receipt) -> None:
    """Remember an erasure that begins now. Raises OSError."""
    write_json(store / FOLDER / PENDING, receipt.dump())


def drop_pending(store: Path) -> None:
    """Forget it, for nothing has been changed."""
    (store / FOLDER / PENDING).unlink(missing_ok=True)


def write_receipt(store: Path, receipt: Receipt) -> Path:
    """Keep the receipt of an erasure that is finished; gives its file. Raises OSError."""
    stamp = "".join(letter for letter in receipt.time[:19] if letter.isalnum())
    path = store / FOLDER / f"{stamp}Z-{hash_text(dump_json(receipt.dump()))[:12]}.json"
    write_json(path, receipt.dump())
    drop_pending(store)
    return path


def find_receipt(store: Path, user: str) -> Path | None:
    """The receipt that holds a user's keyed hash, or None."""
    for path in sorted((store / FOLDER).glob("*Z-*.json")):
        if user in _read_receipt(path).users:
            return path
    return None


def mark_due(store: Path, time: str) -> None:
    """Say that the erasure of this time makes retraining due. Raises OSError."""
    times = sorted({*read_due(store), time})
    write_json(store / DUE, {"reason": "erasure", "since": times[0], "erasures": times})


def read_due(store: Path) -> list[str]:
    """The times of the erasures after which nothing was trained anew, oldest first; none where nothing is due."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return [str(time) for time in read_json(store / DUE)["erasures"]]
    return []


def clear_due(store: Path, ingested: str) -> None:
    """A run ingested at this time is live: retraining is no longer due where that was after every erasure."""
    times = read_due(store)
    if times and ingested > times[-1]:
        (store / DUE).unlink(missing_ok=True)


def _read_receipt(path: Path) -> Receipt:
    try:
        return Receipt(**read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path} is not a receipt ({error})", "what forget writes", "restore or delete it") from error
