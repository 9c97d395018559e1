"""Shared by all tests: where real data lies, and what happens where a system program is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ.setdefault("DO_NOT_TRACK", "1")


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
