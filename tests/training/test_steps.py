"""The step log: goes on behind the step of a checkpoint, without the lines that a killed training left beyond it."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from recsys_cl.training.steps import StepLog


def write(path: Path, first: int, steps: range) -> None:
    with StepLog(path) as log:
        log.open(first)
        for step in steps:
            log.write({"step": step, "loss": step / 2})


def read(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_new_training_begins_a_new_log(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "steps.jsonl"
    write(path, 0, range(1, 6))
    write(path, 0, range(1, 3))
    assert read(path) == [1, 2]


@given(st.integers(0, 8), st.integers(1, 12))
def test_it_goes_on_behind_the_checkpoint_wherever_it_was_cut(tmp_path_factory, kept: int, cut: int) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("log") / "steps.jsonl"
    write(path, 0, range(1, 9))
    path.write_bytes(path.read_bytes()[:-cut])  # torn by a kill
    whole = [int(json.loads(line)["step"]) for line in path.read_text().split("\n")[:-1]]
    write(path, kept, range(kept + 1, kept + 3))
    assert read(path) == [step for step in whole if step <= kept] + [kept + 1, kept + 2]


def test_without_a_path_nothing_is_written(tmp_path: Path) -> None:
    with StepLog(None) as log:
        log.open(3)
        log.write({"step": 4})
        log.flush()
    assert not list(tmp_path.iterdir())
