"""Trains the world of `build_log` with a checkpoint a step; for tests that kill it. Not a test itself.

Arguments: settings… A process forked from here is a training; this one only waits, so that its imports are paid once
for many trainings. Commands on standard input: a folder and a number n. Above 0 it kills the training right after step
n was logged, below 0 after -n milliseconds. The answer is the hash of its vectors, or how it was killed. The steps at
which trainings began stand in began_at.txt.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

import numpy as np

from recsys_cl.config import Config, apply_settings
from recsys_cl.ids import IdMap
from recsys_cl.index.mine import mine_items
from recsys_cl.interactions.table import Interactions
from recsys_cl.training import checkpoint
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.loop import Hooks, Validation
from recsys_cl.training.trainer import train

N_USERS, N_ITEMS, EACH = 60, 40, 8


def build_log() -> Interactions:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(N_ITEMS)[:EACH] for _ in range(N_USERS)]).astype(np.int32)
    return Interactions(
        IdMap.build([f"u{row:03d}" for row in range(N_USERS)]),
        IdMap.build([f"i{row:03d}" for row in range(N_ITEMS)]),
        np.arange(0, len(rows) + 1, EACH),
        rows,
        np.arange(len(rows)),
        np.ones(len(rows), dtype=np.float32),
        True,
    )


def measure(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Something that depends on the vectors: each user's share of scores above the mean."""
    scores = queries @ candidates.T
    return (scores > scores.mean()).mean(axis=1).astype(np.float64)


def run(folder: Path, settings: list[str], kill_at: int) -> str:
    checkpoint._PATIENCE = 0.0  # a checkpoint a step, however long one takes
    if kill_at < 0:
        signal.setitimer(signal.ITIMER_REAL, -kill_at / 1000)  # nobody handles it: the process ends, wherever it is
    seen: list[float] = []

    def progress(what: str, done: float, total: float, note: str = "") -> None:
        if not seen:
            with (folder / "began_at.txt").open("a") as file:
                file.write(f"{int(done)}\n")
        seen.append(done)
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    log = build_log()
    hooks = Hooks(
        Validation(np.arange(N_USERS), measure),
        mine_items,
        progress,
        folder / "checkpoint.safetensors",
        folder / "steps.jsonl",
    )
    trained = train(log, apply_settings(Config(), settings), hooks=hooks)
    digest = hashlib.sha256(encode_candidates(trained.model).tobytes())
    digest.update(encode_queries(trained.model, log.to_bags(), np.arange(N_USERS)).tobytes())
    history = [{name: entry[name] for name in entry if name != "seconds"} for entry in trained.history]
    digest.update(repr((trained.n_steps, history)).encode())
    return digest.hexdigest()


def main() -> None:
    settings = sys.argv[1:]
    for line in sys.stdin:
        folder, kill_at = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, run(Path(folder), settings, int(kill_at)).encode())
            os._exit(0)
        os.close(writing)
        answer = os.read(reading, 1000).decode()
        os.close(reading)
        status = os.waitpid(child, 0)[1]
        print(answer if not status else f"killed by {os.WTERMSIG(status)}", flush=True)


if __name__ == "__main__":
    main()
