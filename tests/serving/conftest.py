"""Small releases for the tests of this folder, made by the same module as for those of publishing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from recsys_cl.publishing.release import publish_release
from recsys_cl.serving.lookup import Release, open_release


def _load() -> ModuleType:
    path = Path(__file__).parents[1] / "publishing" / "small_release.py"
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


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small release; nothing may be written into it."""
    folder = tmp_path_factory.mktemp("store")
    world = small.World()
    publish_release(small.make_parts(folder / "given", world), small.make_facts(world), folder / "s")
    return folder / "s"


@pytest.fixture(scope="session")
def release(store: Path) -> Release:
    """The small release, open."""
    return open_release(store)
