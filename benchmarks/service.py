"""Requests a second of the service beside a bare FastAPI route that gives the same bytes, at 1, 8 and 64 connections.

`python -m benchmarks.service [--store STORE] [--seconds 5] [--rounds 3]` writes `service.md`; wrk must be installed.
Without STORE a release of 100,000 items and as many users is drawn, 64 floats wide.
Each server is a process of its own, as it starts by itself, its log written to nothing; wrk asks with one thread, from
the same machine. The bare one is what a first page of FastAPI's documentation shows: an `async` route under uvicorn
that returns a dictionary held in memory, and reads the body where there is one. All in turns; medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from benchmarks.drawn import make_small, publish_large
from recsys_cl.machine import count_cores
from recsys_cl.serving.lookup import open_release

HERE = Path(__file__).parent
CONNECTIONS = (1, 8, 64)
N_DRAWN = 100_000
N_ASKED = 200  # different requests, one after the other
_BARE = """
import json, socket, sys
import uvicorn
from fastapi import Body, FastAPI

answers = json.loads(open(sys.argv[1]).read())
app = FastAPI()

@app.get("/items/{item_id}/neighbors")
async def neighbors(item_id: str, k: int = 10): return answers["neighbors"]

@app.get("/users/{user_id}/recommendations")
async def user(user_id: str, k: int = 10): return answers["recommendations"]

@app.post("/recommend")
async def recommend(asked: dict = Body()): return answers["session"]

listener = socket.socket()
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as where uvicorn binds by itself
listener.bind(("127.0.0.1", 0))
print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False)).run(sockets=[listener])
"""
_ASK = """
local asked, n = {}, 0
init = function(args)
  for line in io.lines("%s") do
    local path, body = line:match("^(%%S+) ?(.*)$")
    if body == "" then asked[#asked + 1] = wrk.format("GET", path)
    else
      wrk.headers["Content-Type"] = "application/json"
      asked[#asked + 1] = wrk.format("POST", path, wrk.headers, body)
    end
  end
end
request = function() n = n %% #asked + 1; return asked[n] end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('FIGURES {"seconds": %%f, "requests": %%d, "p50": %%f, "p99": %%f, "failed": %%d}\\n',
    summary.duration / 1e6, summary.requests, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Kind:
    """One kind of request: its name, and what is asked, each a path and the body of a POST, if it is one."""

    name: str
    asked: list[tuple[str, str]]


def list_kinds(store: Path) -> list[Kind]:
    """Neighbors, recommendations and sessions, of items and users of the release."""
    release = open_release(store)
    items = release.parts.catalog.items.to_series().to_list()
    users = release.parts.users.to_series().to_list()
    places = range(N_ASKED)
    histories = [[items[(7 * place + step * step) % len(items)] for step in range(5)] for place in places]
    return [
        Kind("neighbors", [(f"/items/{quote(items[n % len(items)], safe='')}/neighbors?k=10", "") for n in places]),
        Kind(
            "recommendations",
            [(f"/users/{quote(users[n % len(users)], safe='')}/recommendations?k=10", "") for n in places],
        ),
        Kind("session", [("/recommend", json.dumps({"history": history, "k": 10})) for history in histories]),
    ]


@contextmanager
def start(*arguments: str) -> Iterator[str]:
    """A server in a process of its own; gives where it answers."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        try:
            yield str(url)
        finally:
            server.terminate()


def ask_once(url: str, kind: Kind) -> Any:
    """The answer to the first request of a kind."""
    path, body = kind.asked[0]
    headers = {"content-type": "application/json"}
    with urlopen(Request(url + path, body.encode() or None, headers), timeout=30) as answer:
        return json.load(answer)


def measure(url: str, script: Path, connections: int, seconds: int) -> dict[str, float]:
    """What wrk says: seconds, requests, p50 and p99 in ms, failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in said.splitlines() if line.startswith("FIGURES ")]
    found: dict[str, float] = json.loads(line.removeprefix("FIGURES "))
    return found


def compare(store: Path, folder: Path, seconds: int, n_rounds: int) -> dict[tuple[str, int, str], dict[str, float]]:
    """Medians of the figures, by kind, connections and server."""
    kinds, found = list_kinds(store), defaultdict(list)
    with start("-m", "recsys_cl.cli", "serve", "--store", str(store), "--port", "0", "--json", "--quiet") as ours:
        answers = folder / "answers.json"
        answers.write_text(json.dumps({kind.name: ask_once(ours, kind) for kind in kinds}))
        with start("-c", _BARE, str(answers)) as bare:
            for kind in kinds:
                lines = [f"{path}{body and ' ' + body}" for path, body in kind.asked]
                (folder / f"{kind.name}.txt").write_text("\n".join(lines))
                (folder / f"{kind.name}.lua").write_text(_ASK % (folder / f"{kind.name}.txt"))
            for number in range(n_rounds + 1):  # the first warms up
                for kind in kinds:
                    for connections in CONNECTIONS:
                        for name, url in (("recsys_cl", ours), ("bare route", bare)):
                            script = folder / f"{kind.name}.lua"
                            one = measure(url, script, connections, seconds if number else 1)
                            if number:
                                found[kind.name, connections, name].append(one)
    return {key: {name: median(one[name] for one in ones) for name in ones[0]} for key, ones in found.items()}


def render(found: dict[tuple[str, int, str], dict[str, float]], about: str) -> str:
    """The table. The share that is ours: of the median time of a request, what the bare route does not take."""
    lines = ["# Requests a second", "", f"Written by `python -m benchmarks.service`. {about}", ""]
    lines += ["| request | connections | requests a second | p50, ms | p99, ms | failed | bare route | its p50, p99 | "]
    lines[-1] += "share that is ours |"
    lines += ["| --- " * 9 + "|"]
    for (kind, connections, name), figures in found.items():
        if name == "recsys_cl":
            bare = found[kind, connections, "bare route"]
            lines.append(
                f"| {kind} | {connections} | {figures['requests'] / figures['seconds']:,.0f} | {figures['p50']:.2f} | "
                f"{figures['p99']:.2f} | {figures['failed']:.0f} | {bare['requests'] / bare['seconds']:,.0f} | "
                f"{bare['p50']:.2f}, {bare['p99']:.2f} | {1 - bare['p50'] / figures['p50']:.0%} |"
            )
    return "\n".join([*lines, ""])


def main() -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, help="one with a release")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed; install it with the package manager of this system: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name:
        store = given.store or Path(name) / "store"
        if given.store is None:
            publish_large(make_small(Path(name)), store, N_DRAWN, N_DRAWN)
        found = compare(store, Path(name), given.seconds, given.rounds)
        n_items = open_release(store).n_items
    about = f"{n_items:,} items, k 10, {count_cores()} cores for server and wrk; median of {given.rounds} rounds of "
    (HERE / "service.md").write_text(render(found, f"{about}{given.seconds} s each."), encoding="utf-8")
    print((HERE / "service.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
