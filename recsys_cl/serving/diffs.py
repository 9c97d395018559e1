"""Differences between releases, which never change: each pair is compared once, and one pair at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from recsys_cl.errors import StoreError
from recsys_cl.serving.diff import diff_releases
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.serving.problems import Problem, ProblemError, hide_place, say_busy

_KEPT = 32  # some 5 KiB each

_Pair = tuple[str, str]


class Diffs:
    """Keeps the last 32 that were asked for."""

    def __init__(self) -> None:
        self._lock, self._comparing = threading.Lock(), threading.Lock()
        self._known: OrderedDict[_Pair, dict[str, Any]] = OrderedDict()

    def get(self, first: Path, second: Path) -> dict[str, Any]:
        """What differs between the releases in two folders; see `diff_releases`.

        Raises ProblemError: 503 where it is not known yet while another pair is being compared, which takes a core for
        seconds; 404 where a release has been pruned meanwhile; 409 where one is broken.
        """
        pair = (first.name, second.name)
        known = self._find(pair)
        if known is not None:
            return known
        if not self._comparing.acquire(blocking=False):
            raise ProblemError(say_busy("two releases are being compared", 2))
        try:
            known = self._find(pair)  # it may have been compared between the two
            return self._keep(pair, _compare(first, second)) if known is None else known
        finally:
            self._comparing.release()

    def _find(self, pair: _Pair) -> dict[str, Any] | None:
        with self._lock:
            if pair in self._known:
                self._known.move_to_end(pair)
            return self._known.get(pair)

    def _keep(self, pair: _Pair, found: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self._known[pair] = found
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found


def _compare(first: Path, second: Path) -> dict[str, Any]:
    opened = [_open(folder) for folder in (first, second)]
    try:
        return diff_releases(*opened)
    except StoreError as error:  # a part that is opened, or looked at, only when it is asked
        raise ProblemError(_explain_broken(f"{first.name} or {second.name}", first, error)) from error


def _open(folder: Path) -> Release:
    try:
        return open_release(folder)
    except StoreError as error:
        if not folder.is_dir():
            raise ProblemError(Problem(404, "not-found", f"there is no release {folder.name!r} any more")) from error
        raise ProblemError(_explain_broken(folder.name, folder, error)) from error


def _explain_broken(name: str, folder: Path, error: StoreError) -> Problem:
    reason = hide_place(str(error), folder.parent.parent)
    return Problem(409, "broken-release", f"release {name} is broken: {reason}")
