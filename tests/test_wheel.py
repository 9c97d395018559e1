"""The wheel, installed in an environment of its own outside the clone: what is in it, and that it runs anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, for a build leaves folders beside them."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("recsys_cl", "flows", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (copy / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it, and this one's packages behind it, so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder named in a .pth file comes after the environment's own, and its own .pth files are not read.
    (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(environment: Path, cwd: Path, *arguments: str) -> str:
    command = [environment / "bin" / arguments[0], *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_with_its_types_and_the_flows_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    sources = {str(path.relative_to(ROOT)) for name in ("recsys_cl", "flows") for path in (ROOT / name).rglob("*.py")}
    code = {name for name in names if ".dist-info/" not in name}
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "recsys_cl" / "serving" / "page").glob("*")}
    assert code == sources | page | {"recsys_cl/py.typed"}
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_wheel_runs_outside_the_clone(environment: Path, tmp_path: Path) -> None:
    where = "import recsys_cl, flows; print(recsys_cl.__file__); print(flows.__file__)"
    assert all(
        Path(line).is_relative_to(environment)
        for line in run(environment, tmp_path, "python", "-c", where).splitlines()
    )
    run(environment, tmp_path, "recsys-cl", "init", "shop")
    (tmp_path / "elsewhere").mkdir()
    quick = ("--set", "training.epochs=1", "model.dim=8", "evaluation.n_resamples=100", "split.validation_share=0")
    any_model = ("publishing.require_gain=false", "publishing.least_effective_rank=0")
    out = run(
        environment, tmp_path / "elsewhere", "recsys-cl", "run", "../shop/config.toml", "--json", *quick, *any_model
    )
    outcome = json.loads(out)
    assert (tmp_path / "shop" / "store" / "releases" / "CURRENT").read_text() == outcome["release"]
    item = (tmp_path / "shop" / "items.csv").read_text().splitlines()[1].partition(",")[0]
    store = ("--store", str(tmp_path / "shop" / "store"))
    answers = json.loads(run(environment, tmp_path, "recsys-cl", "similar", item, *store, "-k", "3", "--json"))
    assert [answer["rank"] for answer in answers] == [1, 2, 3]
    assert all(answer["title"] for answer in answers)
    assert not list((tmp_path / "elsewhere").iterdir())
