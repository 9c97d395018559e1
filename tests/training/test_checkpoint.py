"""Checkpoints: a training that was killed anywhere goes on to the very vectors of one that never was."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys_cl.config import Config, apply_settings
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import Interactions
from recsys_cl.training.checkpoint import Checkpoints, Snapshot, name_training

CHILD = Path(__file__).with_name("killed_child.py")
COMMON = ["model.dim=8", "training.n_threads=1", "training.batch_users=16", "training.validate_every=2"]
COMMON += ["training.epochs=10", "training.least_steps=0", "training.checkpoint_seconds=1e-9"]
N_STEPS = 40
KINDS = {
    "default": [],
    "neighbors": ["model.neighbor_weight=1", "model.tied=true", "training.patience=100"],
    "hard negatives": ["sampling.negatives=hard", "sampling.n_negatives=12", "sampling.n_hard=2"],
    "averaged": ["model.query_hidden=8", "training.average_power=2", "training.patience=100"],
    "weights, dropout, clipping": [
        *("model.history=transformer", "sampling.positives=next", "model.learn_temperature=true"),
        *("training.clip_norm=0.1", "training.warmup_share=0.2"),
    ],
}


@contextmanager
def start(settings: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(CHILD), *COMMON, *settings]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ask(process: subprocess.Popen[str], folder: Path, kill_at: int) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    folder.mkdir(exist_ok=True)
    process.stdin.write(f"{folder} {kill_at}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_twenty_steps_it_ends_with_the_same_vectors(kind: str, tmp_path: Path) -> None:
    steps = np.sort(np.random.default_rng(3).choice(np.arange(1, N_STEPS), 20, replace=False))
    with start(KINDS[kind]) as process:
        unbroken = ask(process, tmp_path / "unbroken", 0)
        assert len(unbroken) == 64
        for step in steps.tolist():
            assert ask(process, tmp_path / "broken", step) == "killed by 9"
        assert ask(process, tmp_path / "broken", 0) == unbroken
    began = [int(line) for line in (tmp_path / "broken" / "began_at.txt").read_text().split()]
    assert began == [1, *steps.tolist()], "each goes on at the step that was killed, none from the start"
    logs = [(tmp_path / name / "steps.jsonl").read_text().splitlines() for name in ("unbroken", "broken")]
    told = [[{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines] for lines in logs]
    assert told[0] == told[1], "nor does the log of steps show it"


def test_killed_at_any_moment_it_ends_with_the_same_vectors(tmp_path: Path) -> None:
    """In the middle of a step, of a checkpoint, of a line of the log."""
    with start(KINDS["hard negatives"]) as process:
        unbroken = ask(process, tmp_path / "unbroken", 0)
        moments = np.random.default_rng(7).integers(10, 120, size=12)
        answers = [ask(process, tmp_path / "broken", -moment) for moment in moments.tolist()]
        assert set(answers) <= {"killed by 14", unbroken}
        assert answers.count("killed by 14") >= 2
        assert ask(process, tmp_path / "broken", 0) == unbroken


def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    with start([]) as process:
        unbroken = ask(process, tmp_path / "unbroken", 0)
        ask(process, tmp_path / "broken", 17)
        path = tmp_path / "broken" / "checkpoint.safetensors"
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.write_bytes(data)
        assert ask(process, tmp_path / "broken", 0) == unbroken


def build(weight: float = 1.0) -> Interactions:
    ids = IdMap.build(["a", "b"])
    times = np.array([1, 2])
    return Interactions(
        ids, ids, np.array([0, 2, 2]), np.array([0, 1], dtype=np.int32), times, np.full(2, weight, np.float32), True
    )


def snapshot() -> Snapshot:
    return Snapshot({"x": torch.arange(5.0), "n": torch.tensor([2])}, {"step": 3, "loss": 0.1})


def test_a_snapshot_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    Checkpoints(path, "key", 1.0).write(snapshot())
    found = Checkpoints(path, "key", 1.0).read()
    assert found is not None
    assert found.figures == {"step": 3, "loss": 0.1}
    assert torch.equal(found.tensors["x"], torch.arange(5.0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text", "folder", "missing", "other key"])
def test_what_cannot_be_gone_on_from_is_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.safetensors"
    Checkpoints(path, "key", 1.0).write(snapshot())
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 64]) + data[-2:])
    elif damage == "cut":
        path.write_bytes(data[:-4])
    elif damage in ("empty", "text"):
        path.write_bytes(b"" if damage == "empty" else b"{}" * 40)
    elif damage in ("folder", "missing"):
        path.unlink()
    if damage == "folder":
        path.mkdir()
    assert Checkpoints(path, "other" if damage == "other key" else "key", 1.0).read() is None


def test_without_a_path_or_an_interval_nothing_is_kept(tmp_path: Path) -> None:
    for checkpoints in (Checkpoints(None, "key", 1.0), Checkpoints(tmp_path / "c", "key", 0.0)):
        assert not checkpoints.is_due()
        checkpoints.write(snapshot())
        assert checkpoints.read() is None
    assert not list(tmp_path.iterdir())


def test_it_is_due_after_its_interval_alone(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", "key", 0.05)
    assert not checkpoints.is_due()
    time.sleep(0.06)
    assert checkpoints.is_due()
    checkpoints.write(snapshot())
    assert not checkpoints.is_due()


def test_a_training_is_named_by_events_settings_and_length() -> None:
    config = Config()
    name = name_training(build(), config)
    assert name == name_training(build(), config)
    beside = ["training.n_threads=1", "training.checkpoint_seconds=7.0", "publishing.store=elsewhere"]
    assert name == name_training(build(), apply_settings(config, beside))
    others = [
        name_training(build(2.0), config),
        name_training(build(), config, 5),
        name_training(build(), config, None, 5),
    ]
    others += [
        name_training(build(), apply_settings(config, [setting]))
        for setting in ("training.seed=1", "model.dim=32", "loss.kind=bpr", "split.validation_share=0.2")
    ]
    assert len({name, *others}) == 8
