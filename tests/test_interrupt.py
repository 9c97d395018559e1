"""Ctrl-C in every stage of a real run: exit 130, one line that says how to go on, and that line does go on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recsys_cl.config import Config
from recsys_cl.errors import InterruptedRunError
from recsys_cl.files import TEMPORARY, read_json
from recsys_cl.interrupts import hold_run
from recsys_cl.pipeline import Outcome
from recsys_cl.runs import Run, create_run

LINE = re.compile(r"recsys-cl: interrupted in (\w+); go on with: (recsys-cl run --store \S+ --run \S+)")
MODULE = [sys.executable, "-m", "recsys_cl.cli"]


def start(command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A process in a session of its own, which does not ignore ctrl-C even where the tests run in the background."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def interrupt(command: list[str], moment: Callable[[], bool]) -> tuple[int, str, str]:
    """Start a process, press ctrl-C as soon as `moment` has come; gives the exit code, stdout and stderr."""
    process = start(command)
    end = time.monotonic() + 120
    while not moment():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def read_stages(run: Path) -> dict[str, dict[str, str]]:
    return dict(read_json(run / "run.json")["stages"])


def test_a_run_that_is_interrupted_in_every_stage_still_ends_in_a_release(
    tiny_toml: Path, tiny_outcome: Outcome, tmp_path: Path
) -> None:
    store = shutil.copytree(tiny_outcome.run.store, tmp_path / "s")
    former = set((store / "runs").iterdir())
    found: list[Path] = []

    def find_run() -> Path | None:
        found.extend(
            set((store / "runs").glob("*/run.json")) - {path / "run.json" for path in former} if not found else ()
        )
        return found[0].parent if found else None

    def after(stage: str) -> bool:
        run = find_run()
        return run is not None and stage in read_stages(run)

    moments: list[tuple[set[str], Callable[[], bool]]] = [
        ({"ingest"}, lambda: find_run() is not None and bool(list(found[0].parent.glob(f"{TEMPORARY}*")))),
        ({"train"}, lambda: after("ingest")),
        ({"train"}, lambda: (found[0].parent / "evaluated").is_dir()),
        ({"evaluate"}, lambda: after("train")),
        ({"publish"}, lambda: bool(list((store / "releases").glob(f"{TEMPORARY}*/*")))),
    ]
    slow = ["--set", "evaluation.n_resamples=20000", "ingest.incremental=false"]
    command = [*MODULE, "run", str(tiny_toml), "--store", str(store), *slow]
    done: dict[str, dict[str, str]] = {}
    for stages, moment in moments:
        code, out, err = interrupt(command, moment)
        assert (code, out) == (130, ""), err
        match = LINE.fullmatch(err.strip())
        assert match, err
        assert match[1] in stages
        assert (store / "releases" / "CURRENT").read_text() == tiny_outcome.release
        assert {path.name for path in (store / "releases").iterdir()} == {"CURRENT", tiny_outcome.release}
        assert done.items() <= read_stages(found[0].parent).items()  # what was finished is not done again
        done = read_stages(found[0].parent)
        command = [*MODULE, *shlex.split(match[2])[1:]]
    assert set(done) == {"ingest", "train", "evaluate"}
    last = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert last.returncode == 0, last.stderr
    assert done.items() <= read_stages(found[0].parent).items()
    live = (store / "releases" / "CURRENT").read_text()
    assert live != tiny_outcome.release
    assert f"release {live} is live" in last.stdout
    assert not list(store.rglob(f"{TEMPORARY}*"))


def test_a_run_killed_in_training_publishes_the_very_vectors_of_one_that_was_not(
    tiny_toml: Path, tmp_path: Path
) -> None:
    """Killed -9 in each of the three trainings, and after each of the first two."""
    slow = ["training.least_steps=400", "training.checkpoint_seconds=0.01"]
    command = [*MODULE, "run", str(tiny_toml), "--set", *slow, "--store"]
    assert subprocess.run([*command, tmp_path / "whole"], capture_output=True, timeout=300).returncode == 0
    run: list[Path] = []
    resume = [*command, str(tmp_path / "broken")]

    def reached(name: str, step: int) -> bool:
        if not run:
            run.extend(path.parent for path in (tmp_path / "broken").glob("runs/*/run.json"))
        log = run[0] / "steps" / f"{name}.jsonl" if run else tmp_path / "none"
        return log.exists() and log.read_text().count("\n") > step and list((run[0] / "work").glob("*.safetensors"))

    moments: list[Callable[[], bool]] = [
        lambda: reached("choosing", 60),
        lambda: reached("choosing", 240),
        lambda: (run[0] / "work" / "plan.json").exists(),
        lambda: reached("evaluated", 150),
        lambda: (run[0] / "work" / "evaluated.json").exists(),
        lambda: reached("published", 200),
    ]
    for moment in moments:
        process = start(resume)
        while not moment():
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        process.kill()
        process.communicate()
        resume = [*MODULE, "run", "--store", str(tmp_path / "broken"), "--run", run[0].name]
    last = subprocess.run(resume, capture_output=True, text=True, timeout=300)
    assert last.returncode == 0, last.stderr
    whole = next((tmp_path / "whole" / "runs").iterdir())
    for name in ("queries", "candidates", "bags"):
        one, other = ((folder / "published" / f"{name}.npy").read_bytes() for folder in (whole, run[0]))
        assert one == other, name
    assert (whole / "evaluated" / "queries.npy").read_bytes() == (run[0] / "evaluated" / "queries.npy").read_bytes()
    for name in ("choosing", "evaluated", "published"):
        logs = [(folder / "steps" / f"{name}.jsonl").read_text().splitlines() for folder in (whole, run[0])]
        told = [[(json.loads(line)["step"], json.loads(line).get("loss")) for line in lines] for lines in logs]
        assert told[0] == told[1]
    assert not (run[0] / "work").exists()


def test_ctrl_c_at_a_terminal_ends_the_daily_flow_with_the_same_line(
    tiny_toml: Path, prefect_home: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "s"
    command = [sys.executable, "-m", "flows.daily", str(tiny_toml), "--store", str(store)]
    process = start(command, prefect_home)
    end = time.monotonic() + 120
    while not any("ingest" in read_stages(path.parent) for path in store.glob("runs/*/run.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells every process of the group, Prefect's server too
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out.strip()) == (130, ""), err
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("recsys-cl: ")]
    match = LINE.fullmatch(line)
    assert match, line
    assert match[1] == "train"
    assert not list(store.rglob(f"{TEMPORARY}*"))
    assert not (store / "releases").exists()


# --- libraries that lose ctrl-C, or turn it into something else ---


@pytest.fixture
def run(tiny_config: Config, tmp_path: Path) -> Iterator[Run]:
    """A new run, in a process that hears ctrl-C even where the tests run in the background."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield create_run(tmp_path / "a store", tiny_config)
    signal.signal(signal.SIGINT, former)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_an_error_that_a_library_makes_of_ctrl_c_is_an_interruption(run: Run) -> None:
    def fail_inside() -> None:
        try:
            press()
        except KeyboardInterrupt:
            raise AttributeError("module half imported") from None

    former = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedRunError) as caught, hold_run(run):
        fail_inside()
    assert f"recsys-cl run --store '{run.store}' --run {run.run_id}" in caught.value.remedy
    assert str(caught.value).startswith("interrupted in ingest; ")
    assert signal.getsignal(signal.SIGINT) is former


def test_ctrl_c_that_a_library_loses_still_ends_the_stage(run: Run) -> None:
    passed = []

    def work() -> None:
        with hold_run(run), contextlib.suppress(KeyboardInterrupt):
            press()
        passed.append("the stage")

    with pytest.raises(InterruptedRunError), hold_run(run):
        work()
    assert passed == []


def test_an_error_without_ctrl_c_stays_what_it_is(run: Run) -> None:
    with pytest.raises(AttributeError), hold_run(run):
        raise AttributeError


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it(run: Run) -> None:
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with hold_run(run):
            press()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_ctrl_c_inside_generated_code_does_not_kill_python_dash_m(tmp_path: Path) -> None:
    (tmp_path / "given.py").write_text(
        "import signal, sys\nfrom cyclopts import App\nfrom recsys_cl.door import run_app\napp = App()\n"
        "@app.default\ndef main():\n    exec('signal.raise_signal(signal.SIGINT)')\nsys.exit(run_app(app, []))\n"
    )
    process = start([sys.executable, "-m", "given"], os.environ | {"PYTHONPATH": str(tmp_path)})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("recsys-cl: interrupted; ")
