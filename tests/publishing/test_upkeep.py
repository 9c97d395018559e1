"""Upkeep: what was live comes back as it was, damages are named, and what is live or in use is never deleted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys_cl.errors import SealError, StoreError
from recsys_cl.publishing import release as release_module
from recsys_cl.publishing import store as store_module
from recsys_cl.publishing.audit import AUDIT, read_audit
from recsys_cl.publishing.seal import Hold, is_open
from recsys_cl.publishing.store import list_versions, read_current
from recsys_cl.publishing.upkeep import prune_store, roll_back, verify_store
from recsys_cl.serving import lookup
from recsys_cl.serving.diff import diff_releases
from recsys_cl.serving.lookup import open_release

Publish = Callable[..., str]
Command = Callable[..., subprocess.CompletedProcess[str]]


def read_all(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes() for path in (store / "releases").rglob("*") if path.is_file()
    }


@pytest.fixture
def store(publish: Publish, tmp_path: Path) -> Path:
    """Three releases, each following the other."""
    for _ in range(3):
        publish(tmp_path / "s")
    return tmp_path / "s"


def order_versions(store: Path) -> list[str]:
    """As they were published: two of one second are told apart by the audit trail alone."""
    return [line["to"] for line in read_audit(store) if line["action"] == "publish"]


def test_rolling_back_goes_to_the_one_before_and_only_the_pointer_changes(store: Path) -> None:
    first, second, third = order_versions(store)
    before = read_all(store)
    assert roll_back(store) == {"from": third, "to": second}
    assert read_current(store) == second
    assert roll_back(store)["to"] == first
    assert roll_back(store, third) == {"from": first, "to": third}
    assert read_all(store) == before
    trail = [(line["action"], line["from"], line["to"]) for line in read_audit(store)[3:]]
    assert trail == [("rollback", third, second), ("rollback", second, first), ("rollback", first, third)]


def test_there_is_nothing_before_the_first_and_nothing_unknown(store: Path) -> None:
    first, _, third = order_versions(store)
    with pytest.raises(StoreError, match="is live already"):
        roll_back(store, third)
    for name in ("20200101T000000Z-000000000000", "../s", third + "/.."):
        with pytest.raises(StoreError, match="there is no release"):
            roll_back(store, name)
    roll_back(store, first)
    with pytest.raises(StoreError, match=r"is the first of.*there are"):
        roll_back(store)
    assert read_current(store) == first


def test_a_damaged_release_does_not_come_back(store: Path) -> None:
    _, second, third = order_versions(store)
    path = store / "releases" / second / "item_embeddings.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(SealError, match=r"item_embeddings\.npy"):
        roll_back(store)
    assert read_current(store) == third


@pytest.mark.parametrize("call", ["mkstemp", "replace"])
def test_a_full_disk_leaves_live_what_was(store: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    live = read_current(store)
    monkeypatch.setattr(release_module.tempfile if call == "mkstemp" else Path, call, refuse)
    with pytest.raises(OSError, match="No space"):
        roll_back(store)
    monkeypatch.undo()
    assert read_current(store) == live
    assert not list((store / "releases").glob(".partial-*"))


def test_every_flipped_cut_or_missing_file_is_named_and_no_other(store: Path, tmp_path: Path) -> None:
    assert set(map(tuple, verify_store(store).values())) == {()}
    version = order_versions(store)[1]
    for name in sorted(path.name for path in (store / "releases" / version).iterdir()):
        for damage in ("flip", "cut", "gone"):
            copy = tmp_path / "copy"
            shutil.copytree(store, copy)
            path = copy / "releases" / version / name
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 4
            if damage == "gone":
                path.unlink()
            else:
                path.write_bytes(data if damage == "flip" else data[:-1])
            found = {release: [one.part for one in damages] for release, damages in verify_store(copy).items()}
            assert found == {other: [name] if other == version else [] for other in order_versions(store)}
            shutil.rmtree(copy)


def test_pruning_keeps_the_newest_the_live_and_what_is_open(store: Path, publish: Publish) -> None:
    publish(store)
    first, second, third, fourth = order_versions(store)
    roll_back(store, first)
    hold = Hold(store / "releases" / second)
    assert prune_store(store, 1) == {"deleted": [third], "in_use": [second]}
    assert set(list_versions(store)) == {first, second, fourth}
    assert read_current(store) == first
    hold.close()
    assert prune_store(store, 1) == {"deleted": [second], "in_use": []}
    assert prune_store(store, 1) == {"deleted": [], "in_use": []}
    assert set(list_versions(store)) == {first, fourth}
    with pytest.raises(StoreError, match="--keep is 0"):
        prune_store(store, 0)


def test_a_release_is_open_as_long_as_its_process_lives(store: Path) -> None:
    folder = store / "releases" / order_versions(store)[0]
    assert not is_open(folder)
    code = "import sys; from pathlib import Path; from recsys_cl.publishing.seal import Hold\n"
    code += "hold = Hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    assert is_open(folder)
    child.kill()
    child.wait()
    assert not is_open(folder)


def test_a_cut_line_of_the_audit_trail_hides_no_other(store: Path) -> None:
    n = len(read_audit(store))
    with (store / AUDIT).open("a") as file:
        file.write('{"time": "2026-\n')
    roll_back(store)
    assert len(read_audit(store)) == n + 1
    assert (store / AUDIT).stat().st_mode & 0o777 == 0o644


def test_what_differs_between_two_releases_is_counted(publish: Publish, tmp_path: Path) -> None:
    names = [publish(tmp_path / "s", seed=seed) for seed in (0, 1)]
    first, second = (open_release(tmp_path / "s" / "releases" / name) for name in names)
    same, other = diff_releases(first, first), diff_releases(first, second)
    assert (same["churn"], same["n_items"]["gained"], same["n_items"]["lost"]) == (0.0, 0, 0)
    ids = [set(release.parts.catalog.items.to_series()) for release in (first, second)]
    assert (other["n_items"]["lost"], other["n_items"]["gained"]) == (len(ids[0] - ids[1]), len(ids[1] - ids[0]))
    changed = {}
    for item_id in sorted(ids[0] & ids[1]):
        near = [{one["item_id"] for one in release.answer_similar(item_id, 10)} for release in (first, second)]
        changed[item_id] = 1 - len(near[0] & near[1]) / 10
    assert other["churn"] == pytest.approx(sum(changed.values()) / len(changed))
    assert other["moved"][0]["changed"] == pytest.approx(max(changed.values()))
    assert all(changed[moved["item_id"]] == pytest.approx(moved["changed"]) for moved in other["moved"])


def test_the_commands_answer_as_the_functions(recsys: Command, store: Path) -> None:
    first, second, third = order_versions(store)

    def ask(*arguments: str) -> Any:
        done = recsys(*arguments, "--store", store, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert recsys("verify", "--store", store).stdout == "3 releases, each whole\n"
    before = recsys("similar", "007", "--store", store, "--json").stdout
    assert ask("rollback") == {"from": third, "to": second}
    assert recsys("similar", "007", "--store", store, "--json").stdout == before  # three times the same release
    assert ask("diff", first, second)["churn"] == 0
    assert "neighbors changed: 0.0%" in recsys("diff", first, second, "--store", store).stdout
    assert ask("prune", "--keep", "1") == {"deleted": [first], "in_use": []}
    (store / "releases" / second / "users.arrow").unlink()
    done = recsys("verify", "--store", store)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("users.arrow: missing")
    done = recsys("diff", first, second, "--store", store)
    assert done.returncode == 2
    assert "there is no release" in done.stderr


def test_a_release_that_is_pruned_while_it_is_opened_gives_way_to_the_next(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, third = order_versions(store)
    prune_store(store, 1)
    asked = iter([first, third, third])
    monkeypatch.setattr(lookup, "read_current", lambda path: next(asked))
    assert open_release(store).version == third
    monkeypatch.setattr(lookup, "read_current", lambda path: first)
    with pytest.raises(SealError, match=r"manifest\.json: cannot be opened"):
        open_release(store)


def test_a_pointer_that_moves_while_it_is_read_is_read_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, third = order_versions(store)
    prune_store(store, 1)
    (store / "releases" / "CURRENT").write_text(first)
    is_folder = store_module._is_folder

    def move_on(path: Path) -> bool:
        if path.name == first:
            (store / "releases" / "CURRENT").write_text(third)
        return is_folder(path)

    monkeypatch.setattr(store_module, "_is_folder", move_on)
    assert read_current(store) == third


@pytest.mark.parametrize("make", ["pipe", "link"])
def test_a_manifest_that_is_no_file_holds_nobody_up(store: Path, make: str) -> None:
    folder = store / "releases" / order_versions(store)[-1]
    (folder / "manifest.json").rename(store / "moved")
    if make == "pipe":
        os.mkfifo(folder / "manifest.json")
    else:
        (folder / "manifest.json").symlink_to(store / "moved")
    assert not is_open(folder)
    with pytest.raises(SealError, match=r"manifest\.json"):
        open_release(store)
