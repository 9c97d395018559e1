"""Files are written whole or not at all, whatever stops the writer."""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_cl import files
from recsys_cl.files import (
    TEMPORARY,
    dump_json,
    exchange_paths,
    expand_home,
    hash_file,
    hash_text,
    measure_folder,
    read_json,
    remove_leftovers,
    write_file,
    write_folder,
    write_json,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
)  # fmt: skip

WRITE_FILES = """
import itertools, sys
from pathlib import Path
from recsys_cl.files import write_text
print("ready", flush=True)
for n in itertools.count():
    write_text(Path(sys.argv[1]), "ab"[n % 2] * 300_000)
"""
WRITE_FOLDERS = """
import itertools, sys
from pathlib import Path
from recsys_cl.files import write_folder
print("ready", flush=True)
for n in itertools.count():
    with write_folder(Path(sys.argv[1])) as folder:
        for name in ("one", "two"):
            (folder / name).write_text("ab"[n % 2] * 50_000)
"""


def start(code: str, path: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "a" * 300_000)
    for attempt in range(8):
        child = start(WRITE_FILES, path)
        time.sleep(0.01 + 0.013 * attempt)
        kill(child)
        assert path.read_text() in ("a" * 300_000, "b" * 300_000)
    assert all(found.name.startswith(TEMPORARY) for found in tmp_path.iterdir() if found != path)


def test_a_killed_writer_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with write_folder(path) as folder:
        for name in ("one", "two"):
            (folder / name).write_text("a" * 50_000)
    for attempt in range(8):
        child = start(WRITE_FOLDERS, path)
        time.sleep(0.01 + 0.013 * attempt)
        kill(child)
        one, two = ((path / name).read_text() for name in ("one", "two"))
        assert one == two
        assert one in ("a" * 50_000, "b" * 50_000)


def test_a_folder_is_there_at_every_moment_of_being_replaced(tmp_path: Path) -> None:
    if not exchange_works(tmp_path):
        pytest.skip("this system or disk cannot exchange two folders in one step")
    path = tmp_path / "folder"
    path.mkdir()
    child = start(WRITE_FOLDERS, path)
    end = time.monotonic() + 1.5
    n_missing = 0
    while time.monotonic() < end:
        n_missing += not path.exists()
    kill(child)
    assert n_missing == 0


def exchange_works(folder: Path) -> bool:
    (folder / "x").mkdir()
    (folder / "y").write_text("y")
    worked = exchange_paths(folder / "x", folder / "y")
    if worked:
        assert (folder / "y").is_dir()
        assert (folder / "x").read_text() == "y"
    return worked


@pytest.mark.parametrize("exchangeable", [True, False])
def test_a_folder_replaces_another_and_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchangeable: bool
) -> None:
    if not exchangeable:  # as on other systems, and on disks that cannot
        monkeypatch.setattr(files, "exchange_paths", lambda first, second: False)
    path = tmp_path / "folder"
    for text in ("old", "new"):
        with write_folder(path) as folder:
            (folder / text).write_text(text)
            (folder / "below").mkdir()
            (folder / "below" / "deep").write_text(text)
    assert [found.name for found in tmp_path.iterdir()] == ["folder"]
    assert sorted(found.name for found in path.rglob("*")) == ["below", "deep", "new"]
    assert path.stat().st_mode & 0o777 == 0o755


def test_where_names_cannot_be_exchanged_a_failing_rename_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "exchange_paths", lambda first, second: False)
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name.startswith(TEMPORARY):
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt), write_folder(path) as folder:
        (folder / "new").write_text("new")
    assert [found.name for found in tmp_path.rglob("*")] == ["folder", "old"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("old", [True, False])
def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path, write: Any, error: Any, old: bool) -> None:
    path = tmp_path / "below" / "x"
    if old and write is write_file:
        write_text(path, "old")
    elif old:
        path.mkdir(parents=True)
        (path / "x").write_text("old")
    before = sorted(tmp_path.rglob("*"))

    def fail(temporary: Path) -> None:
        (temporary if write is write_file else temporary / "x").write_text("new")
        raise error

    with pytest.raises(error), write(path) as temporary:
        fail(temporary)
    assert sorted(tmp_path.rglob("*")) == (before or [tmp_path / "below"])
    if old:
        assert (path if write is write_file else path / "x").read_text() == "old"


@pytest.mark.parametrize("limit", ["a full disk", "a limit of file size"])
def test_a_disk_without_room_leaves_the_old_file_untouched(tmp_path: Path, limit: str) -> None:
    code = """
import sys
from pathlib import Path
from recsys_cl.files import write_folder, write_text
path = Path(sys.argv[1]) / "file"
write_text(path, "old")
def fill(folder):
    with write_folder(folder) as temporary:
        (temporary / "new").write_text("new" * 100_000)
for write in (lambda: write_text(path, "new" * 100_000), lambda: fill(path.parent / "folder")):
    try:
        write()
        print("written")
    except OSError as error:
        print(error.errno, path.read_text(), [found.name for found in path.parent.iterdir()])
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    limit_size = None
    if limit == "a full disk":
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            pytest.skip("needs root and unshare to mount a small disk")
        mount = 'mount -t tmpfs -o size=64k tmpfs "$0" || exit 77; exec "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, str(tmp_path), *command]
    else:

        def limit_size() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit_size, timeout=60)
    if done.returncode == 77:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    number = 28 if limit == "a full disk" else 27  # ENOSPC, EFBIG
    assert done.stdout.splitlines() == [f"{number} old ['file']"] * 2, done.stderr


def test_files_can_be_read_by_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_text(tmp_path / "x", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "🙂" * 63, "x" + "é" * 127, "sp ace\n"])
def test_every_name_that_a_disk_takes_can_be_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "x")
    assert [found.name for found in tmp_path.iterdir()] == [name]
    with write_folder(tmp_path / "below" / name):
        pass
    assert [found.name for found in (tmp_path / "below").iterdir()] == [name]


def test_a_folder_in_the_place_of_a_file_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "x", "x")
    (tmp_path / "y").write_text("y")
    with pytest.raises(OSError, match="irectory"), write_folder(tmp_path / "y"):
        pass
    assert sorted(found.name for found in tmp_path.iterdir()) == ["x", "y"]
    assert (tmp_path / "y").read_text() == "y"


def test_a_link_in_the_place_of_a_folder_leads_to_no_loss(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="irectory"), write_folder(tmp_path / "link"):
        pass
    assert (tmp_path / "link" / "x").read_text() == "mine"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["link", "mine"]


@given(value=JSON)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_json_comes_back_as_it_went(tmp_path: Path, value: Any) -> None:
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == dump_json(value)


def test_equal_values_have_one_text() -> None:
    assert dump_json({"b": 1, "a": [2]}) == dump_json({"a": [2], "b": 1}) == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_holds_no_figure_that_is_none(tmp_path: Path, value: float) -> None:
    write_json(tmp_path / "x.json", "old")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"deep": [value]})
    assert json.loads((tmp_path / "x.json").read_text()) == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", ["", "{", "nul", "\x00"])
def test_what_is_no_json_raises_a_value_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(ValueError, match="Expecting"):
        read_json(tmp_path / "x")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "x").write_bytes(data)
    assert hash_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@given(st.text())
def test_every_text_has_a_hash_and_valid_ones_that_of_their_bytes(text: str) -> None:
    digest = hash_text(text)
    assert len(digest) == 64
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_folder_weighs_what_its_files_weigh(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"123")
    assert measure_folder(tmp_path) == 8


def test_leftovers_of_others_are_left_until_they_are_old(tmp_path: Path) -> None:
    old, new = tmp_path / f"{TEMPORARY}old", tmp_path / f"{TEMPORARY}new"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (1, 1))
    gone = tmp_path / f"{TEMPORARY}gone"  # what it stood for went meanwhile
    gone.symlink_to(tmp_path / "nowhere")
    remove_leftovers(tmp_path, least_age_hours=1)
    assert set(tmp_path.iterdir()) == {new, gone}
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_nobodys_home_is_a_file_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/a") == Path("/home/me/a")
    assert expand_home("~nobody-of-that-name/a") == Path("~nobody-of-that-name/a")
