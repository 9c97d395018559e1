"""Both images as their Dockerfiles build them, in empty virtual environments; commands and health checks for real.

The services of the compose file run as processes of this machine, Prefect's server on a real PostgreSQL.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from dockerfiles import FILES, ROOT, Built, follow, kill, read_stages

from recsys_cl.pipeline import Outcome

pytestmark = pytest.mark.timeout(1200)  # the first test of each image builds it

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
# Of the base image: Debian's libc6, libgcc-s1, libstdc++6, zlib1g.
OF_THE_BASE = {"libc", "libdl", "libgcc_s", "libm", "libpthread", "libresolv", "librt", "libstdc++", "libz"}
LIST = """
import importlib.metadata, importlib.util, json
names = ("pip", "wheel", "torch", "prefect", "flows", "fastapi", "psycopg", "recsys_cl")
found = {one.name: one.version for one in importlib.metadata.distributions()}
print(json.dumps([found, [name for name in names if importlib.util.find_spec(name)]]))
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait(what: Callable[[], bool], seconds: int = 120) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(1)
    return what()


def build(path: Path) -> Iterator[Built]:
    tag = read_stages(path)[-1].base.partition(":")[2]
    if tag.split("-")[0] != f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip(f"the image has Python {tag.split('-')[0]}, and its wheels are for that")
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        yield follow(path, Path(folder), {port: free_port() for port in ("8000", "8080", "4200")})


@pytest.fixture(scope="module")
def serving() -> Iterator[Built]:
    """The image of the service."""
    yield from build(FILES[1])


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Built]:
    """The image of the pipeline."""
    yield from build(FILES[0])


def list_packages(built: Built) -> tuple[dict[str, str], set[str]]:
    """Distributions with their versions, and which of the interesting modules can be imported."""
    found, modules = json.loads(built.run(["python", "-c", LIST]))
    return found, set(modules)


def list_foreign_libraries(folder: Path) -> set[str]:
    """Names, without versions, of the shared libraries that a folder's own need and do not find in it."""
    files = [path for path in folder.rglob("*.so*") if path.is_file()]
    told = subprocess.run(["ldd", *files], capture_output=True, text=True, timeout=300).stdout
    needed = re.findall(r"(?m)^\t(\S+) => (.*)$", told)
    own = {path.name for path in files}  # those that only their neighbor's path leads to
    return {name.split(".so")[0] for name, place in needed if name not in own and str(folder) not in place}


@pytest.mark.parametrize("name", ["serving", "pipeline"])
def test_an_environment_has_the_pinned_versions_and_needs_no_library_beside_the_base_images(
    name: str, request: pytest.FixtureRequest
) -> None:
    built: Built = request.getfixturevalue(name)
    found, modules = list_packages(built)
    pinned = {package.lower().replace("_", "-"): version for package, version in PINNED.items()}
    other = {
        (package, version)
        for package, version in found.items()
        if pinned.get(package.lower().replace("_", "-")) != version.split("+")[0]
    }
    assert {package for package, _ in other} <= {"recsys_cl", "setuptools"}  # the latter is wanted by torch
    expected = {"recsys_cl", "fastapi"} | ({"torch", "prefect", "flows", "psycopg"} if name == "pipeline" else set())
    assert modules == expected
    assert list_foreign_libraries(built.folder / "venv") <= OF_THE_BASE


def ask(url: str, token: str = "") -> int:
    """The status of an answer; 0 where there is none."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_the_service_says_what_is_missing_while_no_release_is_live(serving: Built, tmp_path: Path) -> None:
    with serving.start([*serving.command[:-2], "--allow-anonymous"], tmp_path / "log") as child:
        assert child.wait(60) == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.startswith("recsys-cl: ")
    assert not serving.is_healthy()


def test_the_service_answers_from_a_store_that_it_cannot_write_whoever_has_the_token_and_is_healthy_as_long_as_it_lives(
    serving: Built, tiny_outcome: Outcome, bound_by_permissions: Callable[[], None] | None, tmp_path: Path
) -> None:
    store, token, log = serving.folder / "store", secrets.token_hex(32), tmp_path / "log"
    shutil.copytree(tiny_outcome.run.store / "releases", store / "releases")
    for path in (store, *store.rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    secret = serving.folder / "run" / "secrets" / "serving_token"
    secret.parent.mkdir(parents=True)
    secret.write_text(token)
    secret.chmod(0o400)
    assert not serving.is_healthy()
    url = f"http://127.0.0.1:{serving.ports['8000']}"
    with serving.start(serving.command, log, preexec=bound_by_permissions) as child:
        try:
            assert wait(serving.is_healthy), log.read_text()
            assert (ask(f"{url}/release"), ask(f"{url}/release", token)) == (401, 200)
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
        finally:
            kill(child)
            for path in (store, *store.rglob("*")):
                path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert not serving.is_healthy()


@pytest.fixture(scope="module")
def database(program: Callable[[str], str]) -> Iterator[dict[str, str]]:
    """A PostgreSQL with the user and the database that the compose file names; what the server's environment says of
    it here. Its password is one that an address would have to escape."""
    makes, runs, asks = (
        program(name) for name in ("initdb", "postgres", SERVICES["postgres"]["healthcheck"]["test"][1])
    )
    named, password, port = SERVICES["postgres"]["environment"], "p@ss/w%rd: ü", free_port()
    user = "nobody" if os.geteuid() == 0 else None  # it refuses root
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        (folder / "password").write_text(password)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        make = [makes, "--pgdata", folder / "data", "--username", named["POSTGRES_USER"], "--encoding", "UTF8"]
        make += ["--auth", "scram-sha-256", "--pwfile", folder / "password", "--no-locale", "--no-sync"]
        subprocess.run(make, user=user, cwd=folder, check=True, capture_output=True, timeout=120)
        ask = [asks, *SERVICES["postgres"]["healthcheck"]["test"][2:], "--host", "127.0.0.1", "--port", str(port)]
        start = [runs, "-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", folder]
        with subprocess.Popen(start, user=user, cwd=folder, stderr=subprocess.DEVNULL) as running:
            try:
                assert wait(lambda: subprocess.run(ask, stdout=subprocess.DEVNULL).returncode == 0)
                with connect("postgres", port, password) as connection:
                    connection.execute(f"create database {named['POSTGRES_DB']}")
                yield SERVICES["server"]["environment"] | {
                    "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
                    "PREFECT_SERVER_DATABASE_PORT": str(port),
                    "PREFECT_SERVER_DATABASE_PASSWORD": password,
                }
            finally:
                running.send_signal(signal.SIGINT)  # end now, whoever is connected
                running.wait(60)


def connect(database: str, port: int, password: str) -> psycopg.Connection[Any]:
    """A connection as Prefect's user."""
    user = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    return psycopg.connect(host="127.0.0.1", port=port, user=user, password=password, dbname=database, autocommit=True)


def here(built: Built, service: str) -> dict[str, str]:
    """The environment of a service, its neighbors being on this machine, as compose reads it."""
    given: dict[str, str] = SERVICES[service].get("environment", {})
    return {name: value.replace("//server:", "//127.0.0.1:") for name, value in given.items()}


@pytest.fixture(scope="module")
def server(
    pipeline: Built, database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[bytes]]:
    """Prefect's server as the compose file starts it, but for this machine alone."""
    service, log = SERVICES["server"], tmp_path_factory.mktemp("server") / "log"
    command = [word.replace("0.0.0.0", "127.0.0.1") for word in service["command"]]
    assert not pipeline.is_healthy(service["healthcheck"]["test"][1:])
    with pipeline.start(command, log, here(pipeline, "server") | database) as child:
        try:
            assert wait(lambda: pipeline.is_healthy(service["healthcheck"]["test"][1:])), log.read_text()
            yield child
        finally:
            kill(child)


def test_the_servers_of_the_compose_file_run_the_daily_flow_and_tell_who_lives(
    pipeline: Built,
    server: subprocess.Popen[bytes],
    database: dict[str, str],
    tiny_toml: Path,
    tmp_path: Path,
) -> None:
    store, log = pipeline.folder / "store", tmp_path / "log"
    pipeline.run(["recsys-cl", "init", "/store"])  # as docs/operations.md begins; its own log takes minutes
    shutil.copy(tiny_toml, store / "config.toml")
    deploy, client = SERVICES["deployments"], here(pipeline, "deployments")
    command = [word.replace("$$", "$") for word in deploy["command"]]
    for _ in range(2):  # the second time the pool is there
        pipeline.run(command, client)
    name, port, password = (database[f"PREFECT_SERVER_DATABASE_{part}"] for part in ("NAME", "PORT", "PASSWORD"))
    with connect(name, int(port), password) as connection:
        rows = connection.execute("select name, parameters ->> 'store' from deployment order by name").fetchall()
        assert rows == [(flow, str(store)) for flow in ("daily", "export", "images", "maintenance")]
        planned = "select distinct name from deployment where id in (select deployment_id from flow_run) order by name"
        assert wait(lambda: connection.execute(planned).fetchall() == [("daily",), ("maintenance",)])
    assert not pipeline.is_healthy()
    with pipeline.start(pipeline.command, log, here(pipeline, "worker")) as worker:
        try:
            assert wait(pipeline.is_healthy), log.read_text()
            told = pipeline.run(["prefect", "deployment", "run", "daily/daily", "--watch"], client)
            assert "Completed" in told, log.read_text()
            assert (store / "releases" / "CURRENT").is_file()
            os.kill(worker.pid, signal.SIGTERM)
            worker.wait(60)
        finally:
            kill(worker)
    assert not pipeline.is_healthy()
    kill(server)
    assert not pipeline.is_healthy(SERVICES["server"]["healthcheck"]["test"][1:])
