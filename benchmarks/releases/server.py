"""Child processes in milliseconds: comes in one JSON line a job, goes out one JSON line with how a fork of this warm
process ended. Run as `python -m benchmarks.releases.server`.

A job: `{"do", …}`, one of `_JOBS` with its arguments; `trace`: arguments for strace, which is attached before the work
begins and after everything was imported and prepared, so that its counts are those of the work alone; `memory_mib`: how
much address space the fork may take beyond what it starts with. An answer: `{"code", "said", "grown_mib"}`; code: 0
done, 2 a message for people, 3 anything else, 98 out of memory, 99 out of time, below 0 killed by that signal.

This process itself only imports: a fork of one that has worked would lack the threads of its libraries.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

# What a job needs, imported once for all forks.
import faiss  # noqa: F401
import onnxruntime  # noqa: F401

from recsys_cl.errors import InputError, RecsysError
from recsys_cl.publishing.release import publish_release
from recsys_cl.publishing.upkeep import prune_store, roll_back
from recsys_cl.serving.lookup import Release, open_release

SMALL = Path(__file__).parents[2] / "tests" / "publishing" / "small_release.py"
DONE, REFUSED, FAILED, OUT_OF_MEMORY, OUT_OF_TIME = 0, 2, 3, 98, 99
_MOST_POLLS, _POLL_SECONDS = 30_000, 0.002  # a minute; that of a machine that was suspended does not count
_Work = Callable[[], Any]


def load_small() -> ModuleType:
    """The module that makes small releases, from the tests."""
    found = sys.modules.get("small_release")
    if found is None:
        spec = importlib.util.spec_from_file_location("small_release", SMALL)
        assert spec is not None and spec.loader is not None, "a file of Python"  # noqa: PT018
        found = sys.modules["small_release"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    return found


def _prepare_publish(job: dict[str, Any]) -> _Work:
    small, store = load_small(), Path(job["store"])
    world = small.World(seed=job["seed"])
    parts, facts = small.make_parts(Path(job["given"]) / str(world.seed), world), small.make_facts(world)
    return lambda: publish_release(parts, facts, store, job.get("wait_seconds", 60.0))


def _prepare_rollback(job: dict[str, Any]) -> _Work:
    return lambda: roll_back(Path(job["store"]), job.get("to"))


def _prepare_prune(job: dict[str, Any]) -> _Work:
    return lambda: prune_store(Path(job["store"]), job["keep"])


def _prepare_ask(job: dict[str, Any]) -> _Work:
    return lambda: [_try_to_ask(Path(folder)) for folder in job["folders"]]


_JOBS: dict[str, Callable[[dict[str, Any]], _Work]] = {
    "publish": _prepare_publish,
    "rollback": _prepare_rollback,
    "prune": _prepare_prune,
    "ask": _prepare_ask,
}


def _try_to_ask(folder: Path) -> bool:
    """Whether a release opens and answers; false where it is refused with a message."""
    try:
        ask_all(open_release(folder))
    except InputError:  # SealError and StoreError are such; a vector that is NaN is found where it asks
        return False
    return True


def ask_all(release: Release) -> None:
    """Every kind of question, so that every part is touched."""
    items, users = release.parts.catalog.items.to_series(), release.parts.users.to_series()
    for item_id in items.gather([0, len(items) // 2, len(items) - 1]):
        release.answer_similar(item_id, 10)
    for user_id in users.gather([0, len(users) // 2, len(users) - 1]):
        release.answer_user(user_id, 10)
    release.answer_history(list(items.head(3)), 10)
    release.neighbors(items, 5)
    release.recommend(users, k=5)
    release.parts.catalog.to_frame()


def main() -> None:
    """Answer jobs until standard input ends."""
    load_small()
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(job: dict[str, Any]) -> dict[str, Any]:
    shared = mmap.mmap(-1, 1 << 16)  # where a fork leaves its message: no system call that a trace would count
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os._exit(_work(job, shared, ready[1], go[0]))
    for end in (ready[1], go[0]):
        os.close(end)
    tracer = None
    if os.read(ready[0], 1) and "trace" in job:
        command = ["strace", "-f", "-p", str(pid), *job["trace"]]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None, "a pipe"
        first = tracer.stderr.readline()
        if "attached" not in first:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return {"code": FAILED, "said": f"strace: {first.strip()}", "grown_mib": 0}
    os.write(go[1], b"g")
    code, grown = _wait(pid)
    if tracer is not None:
        tracer.communicate()
    for end in (ready[0], go[1]):
        os.close(end)
    said = shared[:].rstrip(b"\0").decode(errors="replace")
    shared.close()
    return {"code": code, "said": said, "grown_mib": grown}


def _wait(pid: int) -> tuple[int, float]:
    for _ in range(_MOST_POLLS):
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024
        time.sleep(_POLL_SECONDS)
    os.kill(pid, signal.SIGKILL)
    os.wait4(pid, 0)
    return OUT_OF_TIME, 0.0


def _work(job: dict[str, Any], shared: mmap.mmap, ready: int, go: int) -> int:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries write there what they think of a hostile file
        printed = os.memfd_create("stdout")  # where programs read answers: nothing else may be written there
        os.dup2(printed, 1)
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER: whoever may trace us
        work = _JOBS[job["do"]](job)
        os.write(ready, b"r")
        os.read(go, 1)
        if "memory_mib" in job:
            size = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
            resource.setrlimit(resource.RLIMIT_AS, (size + (job["memory_mib"] << 20),) * 2)
        said, code = str(work()), DONE
        sys.stdout.flush()
        if size := os.fstat(printed).st_size:
            said, code = f"printed {os.pread(printed, size, 0)!r}", FAILED
    except RecsysError as error:
        said, code = f"{type(error).__name__}: {error}", REFUSED
    except OSError as error:
        said, code = f"OSError: {error}", REFUSED  # the command line makes one line of it too
    except MemoryError:
        said, code = "MemoryError", OUT_OF_MEMORY
    except BaseException:
        said, code = traceback.format_exc(), FAILED
    data = said.encode()[-(len(shared) - 1) :]
    shared[: len(data)] = data
    return code


if __name__ == "__main__":
    main()
