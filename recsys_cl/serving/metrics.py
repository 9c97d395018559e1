"""Figures of the service: come in request by request, go out as the text that Prometheus reads."""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from collections.abc import Iterable

TEXT = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds

Gauge = tuple[str, str, str, float]
"""Name, `gauge` or `counter`, what it says, value; the name may end in labels, as `{release="…"}`."""


class RequestFigures:
    """Requests by method, route and status, and how long they took by route. Routes are templates: no id is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, int], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(_BOUNDS) + 1))
        self._seconds: dict[str, float] = defaultdict(float)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        with self._lock:
            self._counts[method, route, status] += 1
            self._buckets[route][bisect.bisect_left(_BOUNDS, seconds)] += 1
            self._seconds[route] += seconds

    def list_lines(self) -> Iterable[str]:
        """The lines of all requests so far."""
        with self._lock:
            counts, seconds = dict(self._counts), dict(self._seconds)
            buckets = {route: list(found) for route, found in self._buckets.items()}
        yield from _head("recsys_requests_total", "counter", "Requests answered.")
        for (method, route, status), n in sorted(counts.items()):
            yield f'recsys_requests_total{{method="{method}",route="{route}",status="{status}"}} {n}'
        yield from _head("recsys_request_seconds", "histogram", "Time from a request's head to its answer's end.")
        for route, found in sorted(buckets.items()):
            total = 0
            for bound, n in zip((*map(str, _BOUNDS), "+Inf"), found, strict=True):
                total += n
                yield f'recsys_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
            yield f'recsys_request_seconds_sum{{route="{route}"}} {seconds[route]}'
            yield f'recsys_request_seconds_count{{route="{route}"}} {total}'


def write_text(requests: RequestFigures, gauges: Iterable[Gauge]) -> str:
    """All figures, in the text format of Prometheus."""
    lines = list(requests.list_lines())
    for name, kind, help_text, value in gauges:
        lines += [*_head(name.partition("{")[0], kind, help_text), f"{name} {value}"]
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, help_text: str) -> tuple[str, str]:
    return f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"
