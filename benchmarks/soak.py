"""A long mixture of good and hostile requests through many exchanges of the release: nothing fails, memory stays.

    python -m benchmarks.soak [--store STORE] [--requests 100000] [--reloads 50] [--clients 8] [--json] [--out FILE]

STORE has at least two releases, and is copied; without one, two small releases are trained on a drawn log. Good
requests (neighbors, with and without a filter, of users, with and without why, of histories, and batches of them) are
checked against what lookup answers from the release that they name; hostile ones must be refused as a client's error.
Ours are errors of the 500s but 503 (come again), a lost connection of a good request, and an answer that is not, as a
whole, that of one release. Exit code 1 where there is one, where an exchange did not happen, and where memory at the
end is more than a quarter above what it was after a tenth of the exchanges.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil

from recsys_cl.config import apply_settings, build_config
from recsys_cl.interactions.sample import write_sample
from recsys_cl.interactions.world import WorldConfig
from recsys_cl.pipeline import run_all
from recsys_cl.publishing.live import move_current
from recsys_cl.publishing.store import find_release, list_versions
from recsys_cl.runs import create_run
from recsys_cl.serving.filters import Filters
from recsys_cl.serving.lookup import Release, open_release

_HOSTILE_SHARE = 0.3
_MOST_GROWTH = 1.25
_QUICK = ["recipe.search=false", "training.epochs=1", "model.dim=16", "evaluation.n_resamples=100"]
_ANY_MODEL = ["publishing.require_gain=false", "publishing.least_effective_rank=0"]


@dataclass(frozen=True)
class Question:
    """A good request, and what lookup answers to it from each release."""

    path: str
    body: Any
    answers: dict[str, Any]


@dataclass
class Tally:
    """What came of the requests. wrong: errors of ours, the first few in words; live_seconds: from moving `CURRENT` to
    its being answered from; rss_mib: of the service, over time."""

    statuses: Counter[int] = field(default_factory=Counter)
    n_wrong: int = 0
    wrong: list[str] = field(default_factory=list)
    releases: Counter[str] = field(default_factory=Counter)
    live_seconds: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def blame(self, what: str) -> None:
        """Note an error of ours."""
        with self.lock:
            self.n_wrong += 1
            self.wrong = [*self.wrong, what][:10]


def make_store(folder: Path) -> Path:
    """Two small releases of a drawn log."""
    write_sample(folder / "world", WorldConfig(n_users=400, n_items=300, n_events=12_000))
    settings = [f'ingest.log="{folder}/world/events.csv"', f'publishing.store="{folder}/made"', *_QUICK, *_ANY_MODEL]
    for seed in (1, 2):
        config = apply_settings(build_config({}), [*settings, f"training.seed={seed}"])
        run_all(create_run(folder / "made", config))
    return folder / "made"


def ask_questions(releases: list[Release], n: int) -> list[Question]:
    """n good requests about what all of the releases have."""
    rng = random.Random(0)
    items = sorted(set.intersection(*(set(release.parts.catalog.items.to_series()) for release in releases)))
    users = sorted(set.intersection(*(set(release.parts.users.to_series()) for release in releases)))
    kinds: list[Callable[[], tuple[str, Any, Callable[[Release], Any]]]] = [
        lambda: _ask_neighbors(rng.choice(items)),
        lambda: _ask_user(rng.choice(users)),
        lambda: _ask_history(rng.sample(items, 4)),
        lambda: _ask_without(rng.choice(items), rng.choice(items)),
        lambda: _ask_why(rng.choice(users)),
        lambda: _ask_batch([rng.sample(items, 3) for _ in range(3)]),
    ]
    questions = []
    for place in range(n):
        path, body, answer = kinds[place % len(kinds)]()
        questions.append(Question(path, body, {release.version: answer(release) for release in releases}))
    return questions


def _ask_neighbors(item: str) -> tuple[str, Any, Callable[[Release], Any]]:
    return f"/items/{quote(item, safe='')}/neighbors?k=10", None, lambda release: release.answer_similar(item)


def _ask_user(user: str) -> tuple[str, Any, Callable[[Release], Any]]:
    return f"/users/{quote(user, safe='')}/recommendations", None, lambda release: release.answer_user(user)


def _ask_history(history: list[str]) -> tuple[str, Any, Callable[[Release], Any]]:
    body = {"history": history, "k": 10}
    return "/recommend", body, lambda release: release.answer_history(history)


def _ask_without(item: str, denied: str) -> tuple[str, Any, Callable[[Release], Any]]:
    path, filters = f"/items/{quote(item, safe='')}/neighbors?k=10&deny={quote(denied)}", Filters(deny=(denied,))
    return path, None, lambda release: release.answer_similar(item, filters=filters)


def _ask_why(user: str) -> tuple[str, Any, Callable[[Release], Any]]:
    path = f"/users/{quote(user, safe='')}/recommendations?k=10&why=true"
    return path, None, lambda release: release.answer_user(user)


def _ask_batch(histories: list[list[str]]) -> tuple[str, Any, Callable[[Release], Any]]:
    bodies = [{"history": history, "k": 10} for history in histories]
    return "/batch/recommend", bodies, lambda release: [release.answer_history(history) for history in histories]


def attack(address: tuple[str, int], rng: random.Random) -> int:
    """Send one hostile request; gives the status, 0 where the service hung up on it."""
    noise = rng.randbytes(rng.randrange(1, 300))
    requests: list[tuple[str, str, bytes | None]] = [
        ("GET", f"/items/{quote(noise)}/neighbors", None),
        ("GET", f"/users/{'../' * rng.randrange(9)}etc/passwd", None),
        ("GET", f"/items/x/neighbors?k={rng.choice(['0', '-1', '9' * 99, 'NaN', ''])}", None),
        ("GET", f"/items/x/neighbors?where={quote(noise)}&deny={quote(noise)}", None),
        ("POST", "/recommend", noise),
        ("POST", "/recommend", b"[" * rng.randrange(1, 50_000)),
        ("POST", "/recommend", b'{"history": ["' + b"x" * rng.randrange(3_000_000) + b'"]}'),
        ("POST", "/recommend", json.dumps({"history": ["\ud800"] * rng.randrange(2_000)}).encode()),
        ("POST", "/batch/neighbors", json.dumps([{"item_id": "x"}] * 101).encode()),
        ("POST", "/images/neighbors", noise),
        (rng.choice(["DELETE", "BREW", "PATCH"]), "/recommend", None),
    ]
    if rng.random() < 0.1:
        with socket.create_connection(address, timeout=30) as connection, contextlib.suppress(OSError):
            connection.sendall(rng.choice([noise + b"\r\n\r\n", b"GET / HTTP/1.1\r\nhost", b"POST / HTTP/1.1\r\n"]))
        return 0
    method, path, body = rng.choice(requests)
    try:
        return _call(HTTPConnection(*address, timeout=60), method, path, body)[0]
    except (OSError, HTTPException):
        return 0


def _call(connection: HTTPConnection, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
    connection.request(method, path, body, {} if body is None else {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def check_answer(question: Question, status: int, content: bytes, tally: Tally) -> None:
    """Note where a good request was not answered as by lookup, from one release."""
    if status == 503:  # told to come again
        return
    if status != 200:
        tally.blame(f"{status} for {question.path}: {content[:200]!r}")
        return
    found = json.loads(content)
    replies = found if isinstance(found, list) else [found]
    items = [
        [{n: value for n, value in item.items() if n not in ("space", "why")} for item in r["items"]] for r in replies
    ]
    (release, *others) = {reply["release"] for reply in replies}
    with tally.lock:
        tally.releases[release] += 1
    if others or (items if isinstance(found, list) else items[0]) != question.answers.get(release):
        tally.blame(f"another answer for {question.path} from {release}")


def _leave_out(item: dict[str, Any]) -> dict[str, Any]:
    """What lookup, too, says of an item."""
    return {name: value for name, value in item.items() if name not in ("space", "why")}


def run_client(address: tuple[str, int], questions: list[Question], tally: Tally, n: int, seed: int) -> None:
    """Send n requests, one after the other, good ones over one connection."""
    rng = random.Random(seed)
    connection = HTTPConnection(*address, timeout=60)
    for _ in range(n):
        if rng.random() < _HOSTILE_SHARE:
            status = attack(address, rng)
            if status >= 500 and status != 503:
                tally.blame(f"{status} for a hostile request")
        else:
            question = rng.choice(questions)
            body = None if question.body is None else json.dumps(question.body).encode()
            try:
                status, content = _call(connection, "GET" if body is None else "POST", question.path, body)
                check_answer(question, status, content, tally)
            except (OSError, HTTPException) as error:
                status, connection = 0, HTTPConnection(*address, timeout=60)
                tally.blame(f"{type(error).__name__} for {question.path}")
        with tally.lock:
            tally.statuses[status] += 1


def exchange(store: Path, address: tuple[str, int], process: psutil.Process, tally: Tally, marks: list[int]) -> None:
    """Make one release after the other live, each after so many requests as marks say, and note memory."""
    versions = list_versions(store)
    for number, mark in enumerate(marks, 1):
        while sum(tally.statuses.values()) < mark:
            time.sleep(0.02)
        wanted, start = versions[number % len(versions)], time.monotonic()
        move_current(store / "releases", wanted)
        while json.loads(_call(HTTPConnection(*address, timeout=60), "GET", "/ready", None)[1])["release"] != wanted:
            time.sleep(0.005)
        tally.live_seconds.append(time.monotonic() - start)
        tally.rss_mib.append(process.memory_info().rss / 2**20)


def soak(store: Path, n_requests: int, n_reloads: int, n_clients: int) -> dict[str, Any]:
    """The figures of one soak."""
    releases = [open_release(find_release(store, version)) for version in list_versions(store)]
    questions = ask_questions(releases, 300)
    tally = Tally()
    command = [
        sys.executable,
        "-m",
        "recsys_cl.cli",
        "serve",
        "--store",
        str(store),
        "--port",
        "0",
        "--json",
        "--quiet",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = urlsplit(json.loads(server.stdout.readline())["url"])
        address = (str(found.hostname), int(found.port or 0))
        start = time.monotonic()
        clients = [
            threading.Thread(target=run_client, args=(address, questions, tally, n_requests // n_clients, seed))
            for seed in range(n_clients)
        ]
        marks = [number * n_requests // (n_reloads + 2) for number in range(1, n_reloads + 1)]
        mover = threading.Thread(target=exchange, args=(store, address, psutil.Process(server.pid), tally, marks))
        for thread in (*clients, mover):
            thread.start()
        for thread in (*clients, mover):
            thread.join()
        seconds = time.monotonic() - start
        server.terminate()
    return describe(tally, seconds) | {"exit_code": server.returncode}


def describe(tally: Tally, seconds: float) -> dict[str, Any]:
    """The tally as figures; memory after a tenth of the exchanges, when all has been touched once, and at the end."""
    early, end = tally.rss_mib[len(tally.rss_mib) // 10], statistics.median(tally.rss_mib[-5:])
    return {
        "n_requests": sum(tally.statuses.values()),
        "seconds": round(seconds, 1),
        "statuses": dict(sorted(tally.statuses.items())),
        "errors_of_ours": tally.n_wrong,
        "first_errors": tally.wrong,
        "n_exchanges": len(tally.live_seconds),
        "answers_by_release": dict(tally.releases),
        "live_seconds_median": round(statistics.median(tally.live_seconds), 3),
        "live_seconds_most": round(max(tally.live_seconds), 3),
        "rss_mib_early": round(early, 1),
        "rss_mib_end": round(end, 1),
        "rss_mib_most": round(max(tally.rss_mib), 1),
        "flat": end <= _MOST_GROWTH * early,
    }


def main() -> int:
    """Run it; exit code 1 where an error was ours, an exchange did not happen, or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="file for the figures, as Markdown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = options.store or make_store(folder)
        shutil.copytree(store / "releases", folder / "store" / "releases")
        found = soak(folder / "store", options.requests, options.reloads, options.clients)
    text = "\n".join(f"{name:<20} {value}" for name, value in found.items())
    if options.out is not None:
        command = " ".join(["python -m benchmarks.soak", *sys.argv[1:]])
        options.out.write_text(f"# A soak of the service\n\n`{command}`\n\n```text\n{text}\n```\n")
    print(json.dumps(found, indent=2) if options.json else text)
    return int(found["errors_of_ours"] > 0 or found["n_exchanges"] < options.reloads or not found["flat"])


if __name__ == "__main__":
    sys.exit(main())
