"""Differences between releases, which never change: each pair is compared once, and one pair at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from recsys_cl.serving.diff import diff_releases
from recsys_cl.serving.lookup import open_release
from recsys_cl.serving.problems import ProblemError, say_busy

_KEPT = 32  # some 5 KiB each


class Diffs:
    """Keeps the last 32 that were asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()

    def get(self, first: Path, second: Path) -> dict[str, Any]:
        """What differs between the releases in two folders; see `diff_releases`.

        Raises ProblemError (503) while another pair is being compared, which takes a core for seconds.
        """
        pair = (first.name, second.name)
        if not self._lock.acquire(blocking=False):
            raise ProblemError(say_busy("two other releases are being compared", 2))
        try:
            if pair not in self._known:
                self._known[pair] = diff_releases(open_release(first), open_release(second))
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            return self._known[pair]
        finally:
            self._lock.release()
