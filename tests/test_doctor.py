"""The doctor tells good from bad, and names the command that mends it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from recsys_cl import doctor
from recsys_cl.config import apply_settings, build_config
from recsys_cl.doctor import Check, check_machine, describe_checks
from recsys_cl.pipeline import Outcome
from recsys_cl.runs import create_run


def copy_store(outcome: Outcome, folder: Path) -> Path:
    return shutil.copytree(outcome.run.store, folder / "copy")


def test_this_machine_passes(tiny_outcome: Outcome) -> None:
    checks = {check.what: check for check in check_machine(tiny_outcome.run.store)}
    assert next(iter(checks)) == "python"
    assert [name for name in checks if name in ("memory", "disk", "threads", "telemetry", "store")] == [
        "memory",
        "disk",
        "threads",
        "telemetry",
        "store",
    ]
    assert [check for check in checks.values() if check.status == "bad"] == []
    assert {"numpy", "polars", "faiss-cpu", "torch", "prefect"} <= set(checks)
    assert "recsys_cl" not in checks
    assert metadata.version("numpy") in checks["numpy"].found
    assert checks["store"].status == "good"
    assert tiny_outcome.release in checks["store"].found


def test_every_requirement_of_the_package_and_of_what_it_runs_is_looked_at() -> None:
    looked_at = {check.what for check in doctor._check_versions()}
    for text in metadata.requires("recsys_cl") or []:
        requirement = Requirement(text)
        marker = str(requirement.marker or "")
        expected = "extra" not in marker or any(
            f'extra == "{extra}"' in marker for extra in ("train", "flows", "serve")
        )
        if requirement.name != "recsys_cl" and expected:
            assert requirement.name in looked_at


@pytest.mark.parametrize(
    ("text", "extra", "status", "remedy"),
    [
        ("numpy>=1", "", "good", ""),
        ("numpy", "", "good", ""),
        ("numpy>=9999", "", "bad", "pip install 'numpy>=9999'"),
        ("torch<0.1", "train", "bad", "pip install 'torch<0.1'"),
        ("no-such-package-here>=1", "", "bad", "pip install 'no-such-package-here'"),
        ("no-such-package-here>=1", "train", "note", "pip install 'recsys_cl[train]'"),
    ],
)
def test_a_requirement_that_is_not_met_is_named_with_the_command(
    text: str, extra: str, status: str, remedy: str
) -> None:
    found = doctor._check_requirement(Requirement(text), extra)
    assert (found.what, found.status, found.remedy) == (Requirement(text).name, status, remedy)
    if status == "bad" and "no-such" not in text:
        assert metadata.version(found.what) in found.found
        assert str(Requirement(text).specifier) in found.found


def test_a_damaged_release_is_bad_and_the_damaged_file_is_named(tiny_outcome: Outcome, tmp_path: Path) -> None:
    store = copy_store(tiny_outcome, tmp_path)
    assert doctor._check_store(store).status == "good"
    path = store / "releases" / tiny_outcome.release / "item_embeddings.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found = doctor._check_store(store)
    assert found.status == "bad"
    assert "item_embeddings.npy" in found.found
    assert "recsys-cl publish" in found.remedy


@pytest.mark.parametrize(
    ("current", "message"), [("20200101T000000Z-000000000000", "20200101T000000Z-000000000000"), ("../x", "CURRENT")]
)
def test_a_store_that_names_no_release_of_its_own_is_bad(
    tiny_outcome: Outcome, tmp_path: Path, current: str, message: str
) -> None:
    store = copy_store(tiny_outcome, tmp_path)
    (store / "releases" / "CURRENT").write_text(current)
    found = doctor._check_store(store)
    assert found.status == "bad"
    assert message in found.found


@pytest.mark.parametrize("made", [None, "", "runs", "sample"])
def test_a_store_without_a_release_yet_is_no_defect(tmp_path: Path, made: str | None) -> None:
    if made is not None:
        (tmp_path / "s" / made).mkdir(parents=True)
    found = doctor._check_store(tmp_path / "s")
    assert found.status == "note"
    assert found.remedy == f"recsys-cl run --log LOG --store {tmp_path / 's'}"


def test_a_file_in_the_place_of_the_store_is_bad(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    assert doctor._check_store(tmp_path / "s").status == "bad"


def test_room_is_looked_for_where_the_store_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor._check_disk(tmp_path / "not" / "yet")
    assert found.found.endswith(f"free at {tmp_path}")
    free = shutil.disk_usage(tmp_path).free / 2**30
    assert abs(float(found.found.split()[0]) - free) < 1
    monkeypatch.setattr(doctor, "_LEAST_FREE_GIB", 1e9)
    for check in (doctor._check_disk(tmp_path), doctor._check_memory()):
        assert check.status == "note"
        assert check.remedy
    monkeypatch.setattr(doctor, "_LEAST_FREE_GIB", 0.0)
    for check in (doctor._check_disk(tmp_path), doctor._check_memory()):
        assert (check.status, check.remedy) == ("good", "")


def test_threads_that_wait_without_spinning_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert doctor._check_threads().status == "good"
    assert doctor._check_threads().found.endswith("cores, OMP_NUM_THREADS=3")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert doctor._check_threads().status == "note"
    assert doctor._check_threads().remedy == "unset OMP_WAIT_POLICY"


def test_checks_are_one_line_each_with_what_mends_them() -> None:
    checks = [
        Check("python", "good", "3.11"),
        Check("torch", "bad", "1.0", "pip install x"),
        Check("disk", "note", "1"),
    ]
    text = describe_checks(checks)
    assert text.splitlines() == [
        "ok    python         3.11",
        "BAD   torch          1.0  →  pip install x",
        "note  disk           1",
        "3 checks, 1 bad",
    ]
    assert checks[1].dump() == {"what": "torch", "status": "bad", "found": "1.0", "remedy": "pip install x"}


def test_a_place_that_may_not_be_looked_at_is_no_crash(tmp_path: Path, run_bound: Callable[..., Any]) -> None:
    (tmp_path / "closed" / "store").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    code = (
        "import sys; from pathlib import Path; from recsys_cl.doctor import check_machine, describe_checks\n"
        "print(describe_checks(check_machine(Path(sys.argv[1]))))"
    )
    try:
        done = run_bound("-c", code, tmp_path / "closed" / "store")
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert f"free at {tmp_path}" in done.stdout
    assert "store cannot be read (Permission denied)" in done.stdout


def test_packages_that_do_not_work_together_are_named_with_what_works() -> None:
    versions = {"prefect": "3.8.8", "fastapi": "0.151.0", "sqlalchemy": "2.0.58"}
    bad, good = doctor._check_pairs(versions.__getitem__)
    assert (bad.status, bad.remedy) == ("bad", "pip install 'fastapi<0.151'")
    assert "prefect 3.8.8 with fastapi 0.151.0" in bad.found
    assert good.status == "good"

    def find_none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    assert doctor._check_pairs(find_none) == []


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment that says nothing of Prefect; gives the place of its profiles."""
    for name in (*TELEMETRY, "PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "profiles.toml"))
    return tmp_path / "profiles.toml"


TELEMETRY = ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED")


@pytest.mark.parametrize(
    ("track", "analytics", "named"),
    [
        (None, None, TELEMETRY),
        ("1", None, TELEMETRY[1:]),
        ("1", "true", TELEMETRY[1:]),  # the server does not ask DO_NOT_TRACK
        (None, "false", TELEMETRY[:1]),
        ("0", "0", TELEMETRY[:1]),
        ("true", "no", ()),
        ("1", "false", ()),
    ],
)
def test_telemetry_of_servers_and_of_others_is_judged_apart(
    track: str | None, analytics: str | None, named: tuple[str, ...], plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(TELEMETRY, (track, analytics), strict=True):
        if value is not None:
            monkeypatch.setenv(name, value)
    found = doctor._check_telemetry()
    assert found.status == ("note" if named else "good")
    assert tuple(name for name in TELEMETRY if name in found.remedy) == named
    assert (": on" in found.found) is bool(named)


def test_what_prefect_itself_takes_for_its_setting_is_what_the_doctor_finds(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.write_text('active = "ours"\n[profiles.ours]\nPREFECT_SERVER_ANALYTICS_ENABLED = "false"\n[profiles.bare]\n')
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    ask = "from prefect.settings import get_current_settings as g; print(g().server.analytics_enabled)"
    for profile, enabled in (("ours", False), ("bare", True)):
        monkeypatch.setenv("PREFECT_PROFILE", profile)
        told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=120)
        assert told.stdout == f"{enabled}\n"
        assert doctor._check_telemetry().status == ("note" if enabled else "good")
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # above the profile
    assert doctor._check_telemetry().status == "good"
    plain.write_text("no TOML")
    monkeypatch.delenv("PREFECT_SERVER_ANALYTICS_ENABLED")
    assert doctor._check_telemetry().status == "note"


def test_a_server_that_is_named_is_asked_for_its_own_setting(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/admin/settings" else 404)
            self.end_headers()
            self.wfile.write(b'{"server": {"analytics_enabled": true}}')

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    for name, value in zip(TELEMETRY, ("1", "false"), strict=True):
        monkeypatch.setenv(name, value)
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
        found = doctor._check_telemetry()
        server.shutdown()
    assert (found.status, found.found.split(";")[0]) == ("note", "of the server that is named: on")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # nobody
    assert doctor._check_telemetry().status == "good"


def test_versions_other_than_the_tested_ones_are_noted(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    assert doctor._check_constraints(pins) == []
    right = f"numpy=={metadata.version('numpy')}\nno-such-package-here==1.0\n"
    pins.write_text(right)
    assert [check.status for check in doctor._check_constraints(pins)] == ["good"]
    pins.write_text(f"{right}polars==0.0.1\n")
    (found,) = doctor._check_constraints(pins)
    assert found.status == "note"
    assert found.found == f"polars {metadata.version('polars')} (tested ==0.0.1)"
    assert found.remedy == f"pip install -c {pins} -e '{tmp_path}[flows]'"


def test_a_python_that_is_too_old_is_bad_and_memory_is_saved_by_smaller_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert doctor._check_python().status == "good"
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert (doctor._check_python().status, doctor._check_python().remedy[:10]) == ("bad", "python3.11")
    monkeypatch.setattr(doctor, "_LEAST_FREE_GIB", 1e9)
    remedy = doctor._check_memory(build_config({"training": {"batch_users": 400}})).remedy
    settings = remedy.removeprefix("recsys-cl run --set ").split()
    assert apply_settings(build_config({}), settings).training.batch_users == 100


def test_a_server_or_a_database_that_does_not_answer_is_bad_and_no_password_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://me:canary-55@127.0.0.1:9/api")
    server = doctor._check_server()
    config = build_config({"ingest": {"log": "postgresql://me:canary-55@127.0.0.1:9/shop"}})
    (database,) = doctor._check_database(config)
    for found in (server, database):
        assert found.status == "bad"
        assert found.remedy
        assert "canary" not in f"{found.found}{found.remedy}"
    monkeypatch.delenv("PREFECT_API_URL")
    assert doctor._check_server().status == "good"
    made = build_config({"ingest": {"log": f"sqlite:///{tmp_path / 'made.db'}"}})
    assert [check.status for check in doctor._check_database(made)] == ["good"]
    assert doctor._check_database(build_config({"ingest": {"log": "events.csv"}})) == []


def test_a_run_that_was_left_is_noted_with_the_command_that_goes_on(tiny_outcome: Outcome, tmp_path: Path) -> None:
    store = copy_store(tiny_outcome, tmp_path)
    assert doctor._check_unfinished(store) == []
    run = create_run(store, tiny_outcome.run.config)
    (found,) = doctor._check_unfinished(store)
    assert (found.status, found.remedy) == ("note", run.resume_command)
    assert doctor._check_unfinished(tmp_path / "none") == []
