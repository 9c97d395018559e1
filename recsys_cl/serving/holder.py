"""The release that is live in a service: comes in a store, goes out the open release that its `CURRENT` names.

A watcher looks at `CURRENT` several times a second. What it newly names is opened and asked once beside the one that
answers, what that one was asked for is made, and then it takes its place in one step; whoever has begun an answer ends
it with the release it began with. One that cannot be opened is refused: the old one stays, and the reason is kept to be
shown.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import IMAGE, Catalog
from recsys_cl.errors import RecsysError
from recsys_cl.pictures import make_thumbnail
from recsys_cl.publishing.store import find_releases, read_current
from recsys_cl.serving.explain import Touches
from recsys_cl.serving.finding import Titles
from recsys_cl.serving.image_lookup import get_images, open_encoder
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.serving.pictures import PictureEncoder
from recsys_cl.serving.plane import project_items
from recsys_cl.serving.problems import hide_place

POLL_SECONDS = 0.2
RETRY_SECONDS = 10.0
_THUMBNAILS = 512  # kept, some 10 KiB each

T = TypeVar("T")


class Lazy(Generic[T]):
    """A value that is made once, when it is first asked for."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._lock, self._made = make, threading.Lock(), False
        self._value: T | None = None
        self.asked = False

    def get(self) -> T:
        """The value; whoever comes while it is made waits for it."""
        self.asked = True
        with self._lock:
            if not self._made:
                self._value, self._made = self._make(), True
        return self._value  # type: ignore[return-value]


class Live:
    """An open release, with what its answers need beside it, each made once.

    encoder: of pictures that are sent. touches: who touched what. titles: for searching. points: the map of all items
    [n, 2]. Memory beyond the release, once asked for: 8 bytes an item for the map, and what `Touches` and `Titles` say.
    """

    def __init__(self, release: Release) -> None:
        self.release = release
        parts = release.parts
        self.encoder: Lazy[PictureEncoder] = Lazy(lambda: open_encoder(*get_images(release), n_threads=1))
        self.touches: Lazy[Touches] = Lazy(lambda: Touches.build(parts.seen, release.n_items))
        self.titles: Lazy[Titles] = Lazy(lambda: Titles(parts.catalog))
        self.points: Lazy[NDArray[np.float32]] = Lazy(
            lambda: project_items(parts.item_vectors, release.manifest.popularity_dim)
        )
        # Not a method of this object, which would then hold itself, and a release that has gone would linger.
        self.draw_thumbnail = functools.lru_cache(_THUMBNAILS)(functools.partial(_draw_thumbnail, parts.catalog))

    @property
    def pictured(self) -> bool:
        """Whether the release has pictures to search among."""
        return self.release.parts.images is not None

    @property
    def shown(self) -> bool:
        """Whether the catalog says where pictures of its items are."""
        return IMAGE in self.release.parts.catalog.columns.column_names

    @property
    def _extras(self) -> tuple[Lazy[Any], ...]:
        return self.touches, self.titles, self.points

    def warm_up(self) -> None:
        """Ask once, so that the first request finds the tower open and the index mapped."""
        row = np.zeros(1, dtype=np.int64)
        self.release.search(self.release.encode_items(row), 1, Bags.of_items(row))
        if self.pictured:
            _, facts = get_images(self.release)
            self.encoder.get().encode(np.zeros((1, facts.channels, facts.side, facts.side), dtype=np.uint8))

    def catch_up(self, before: Live) -> None:
        """Make what the release before was asked for, so that no request waits for it after the exchange."""
        while wanted := [own for own, old in zip(self._extras, before._extras, strict=True) if old.asked > own.asked]:
            for own in wanted:
                own.get()


@dataclass(frozen=True)
class Refused:
    """A release, or a `CURRENT`, that cannot be used. release: None where `CURRENT` names none; since: seconds of the
    epoch."""

    release: str | None
    reason: str
    since: float


class Holder:
    """Holds the live release of a store, and exchanges it. Raises StoreError where there is none to begin with."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._live = _open(store, read_current(store))
        self.refused: Refused | None = None
        self.n_reloads = self.n_refusals = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def live(self) -> Live:
        """The release to answer with: take it once for each request."""
        return self._live

    def start(self) -> None:
        """Begin to watch `CURRENT`."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._ending.set()

    def look(self) -> None:
        """Make the release live that `CURRENT` names, or keep the one there is and say why."""
        version: str | None = None
        try:
            version = read_current(self.store)
            if version == self._live.release.version:
                self.refused = None
                return
            if self.refused is not None and self.refused.release == version and not self._is_due():
                return
            opened = _open(self.store, version)
            opened.catch_up(self._live)
        except Exception as error:  # whatever is wrong with it, the one that answers goes on
            known = hide_place(str(error), self.store) if isinstance(error, RecsysError) else type(error).__name__
            self._refuse(version, known)
            return
        self._live, self.refused = opened, None
        self.n_reloads += 1

    def _refuse(self, version: str | None, reason: str) -> None:
        known = self.refused
        if known is None or known.release != version:
            self.n_refusals += 1
            known = Refused(version, reason, time.time())
        self.refused = Refused(version, reason, known.since)
        self._tried = time.monotonic()

    def _is_due(self) -> bool:
        return time.monotonic() > self._tried + RETRY_SECONDS

    def _watch(self) -> None:
        while not self._ending.wait(POLL_SECONDS):
            self.look()


def _draw_thumbnail(catalog: Catalog, row: int, side: int) -> bytes | None:
    """A PNG of the item's picture, or None where the catalog names none. Raises PictureError."""
    path = catalog.describe(row).get(IMAGE)
    return None if path is None else make_thumbnail(Path(path), side)


def _open(store: Path, version: str) -> Live:
    live = Live(open_release(find_releases(store) / version))
    live.warm_up()
    return live
