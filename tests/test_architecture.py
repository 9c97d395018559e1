"""Who may import whom, read from the source: imports go down only, the arms never meet, and the root stays tidy."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "recsys_cl"
# From the bottom to the top; a unit may import itself and units of lower floors that are open to its arm.
BASE = [
    "errors",
    "files",
    "sections",
    "learning_sections",
    "image_sections",
    "contract_section",
    "scheduled_sections",
    "config",
    "database",
    "arrow_guard",
    "ids",
    "progress",
    "machine",
    "bags",
    "catalog",
    "interactions",
    "embeddings",
    "pictures",
    "picture_cache",
]
LEARNING = ["sampling", "model", "images", "training"]
RETRIEVAL = ["evaluation", "index", "publishing", "serving"]
TOP = [
    "runs",
    "interrupts",
    "contract",
    "profiling",
    "recipe",
    "budget",
    "plan",
    "pictured",
    "sheet",
    "cold_items",
    "image_parts",
    "imaging",
    "screening",
    "trials",
    "fits",
    "forecast",
    "comparing",
    "reporting",
    "stage_inputs",
    "pipeline",
    "rebuilding",
    "whereabouts",
    "run_erasing",
    "forgetting",
    "gating",
    "resuming",
    "windows",
    "notifying",
    "compacting",
    "settling",
    "indexing",
    "library",
    "benchmark",
    "texts",
    "profile_summary",
    "profile_page",
    "picture_summary",
    "release_summary",
    "summary",
    "config_docs",
    "doctor",
    "options",
    "door",
    "commands",
    "cli",
    "__init__",
]
FORBIDDEN = {
    "base": {"torch", "faiss", "onnxruntime", "fastapi", "prefect", "flows"},
    "learning": {"faiss", "onnxruntime", "fastapi", "prefect", "flows"},
    "retrieval": {"torch", "fastapi", "prefect", "flows"},
    "top": {"faiss", "fastapi", "prefect", "flows"},
}
WEB = {"fastapi", "starlette", "uvicorn"}
WEB_FILES = {f"recsys_cl/serving/{name}.py" for name in ("app", "server")}
SOURCES = sorted(path for folder in ("recsys_cl", "flows") for path in (ROOT / folder).rglob("*.py"))


def arm_of(unit: str) -> str:
    arms = {"base": BASE, "learning": LEARNING, "retrieval": RETRIEVAL, "top": TOP}
    found = [name for name, units in arms.items() if unit in units]
    assert found, f"recsys_cl/{unit} has no place in the architecture: give it one here and in docs/architecture.md"
    return found[0]


def imported_names(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} imports relatively"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only_and_arms_never_meet(path: Path) -> None:
    inside = path.is_relative_to(PACKAGE)
    unit = path.relative_to(PACKAGE).parts[0].removesuffix(".py") if inside else "flows"
    for name in imported_names(path):
        parts = name.split(".")
        if not inside:
            assert parts[0] not in {"torch", "faiss", "fastapi"}, f"{path}: a flow has no algorithm, yet imports {name}"
            continue
        arm = arm_of(unit)
        if parts[0] in WEB:
            assert str(path.relative_to(ROOT)) in WEB_FILES, f"{path} imports {name}: HTTP is a door, not a room"
            continue
        allowed_faiss = unit == "index"
        assert parts[0] not in FORBIDDEN[arm] - ({"faiss"} if allowed_faiss else set()), f"{path} imports {name}"
        if parts[0] == "faiss":
            assert allowed_faiss, f"{path} imports faiss, which only index/ may"
        if parts[0] != "recsys_cl" or len(parts) == 1 or parts[1] == unit:
            continue
        other = parts[1]
        if other not in [*BASE, *LEARNING, *RETRIEVAL, *TOP]:
            continue  # a name of the package itself
        floors = {"base": BASE, "learning": BASE + LEARNING, "retrieval": BASE + RETRIEVAL, "top": []}
        reachable = [*BASE, *LEARNING, *RETRIEVAL, *TOP] if arm == "top" else floors[arm]
        assert other in reachable, f"{path}: {unit} ({arm}) must not import {other}"
        assert arm == "top" or reachable.index(other) < reachable.index(unit), f"{path}: {other} lies above {unit}"


def test_no_module_imports_in_a_circle() -> None:
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES}
    # An import inside a function runs later, so only those at the top of a module can close a circle.
    edges = {
        name: {
            target
            for node in ast.parse(path.read_text()).body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for target in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            )
            if target in files and target != name
        }
        for name, path in files.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' → '.join([*trail, name])}"
        if name not in done:
            for target in edges[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_no_folder_of_leftovers() -> None:
    for name in ("utils", "common", "helpers", "data"):
        assert not (PACKAGE / name).exists()
        assert not (PACKAGE / f"{name}.py").exists()


def test_every_unit_named_here_exists() -> None:
    for unit in [*BASE, *LEARNING, *RETRIEVAL, *TOP]:
        assert (PACKAGE / unit).is_dir() or (PACKAGE / f"{unit}.py").is_file(), unit
