"""Small releases for the tests of this folder."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from recsys_cl.publishing.release import publish_release


def _load() -> ModuleType:
    path = Path(__file__).with_name("small_release.py")
    spec = importlib.util.spec_from_file_location("small_release", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["small_release"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


small = sys.modules.get("small_release") or _load()


@pytest.fixture(scope="session")
def small_release() -> ModuleType:
    """The module that makes small releases."""
    return small


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., str]:
    """publish(store, seed=0, …) -> the name of a small release now live there."""

    def publish_small(store: Path, seed: int = 0, **facts: object) -> str:
        world = small.World(seed=seed)
        parts = small.make_parts(tmp_path / f"given-{seed}", world)
        return publish_release(parts, small.make_facts(world, **facts), store)

    return publish_small
