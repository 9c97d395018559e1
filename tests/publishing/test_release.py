"""Publishing: what is live is whole, whatever stops the next release on its way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from recsys_cl.errors import BusyError, RefusedError, SealError, StoreError
from recsys_cl.publishing.live import list_releases
from recsys_cl.publishing.manifest import is_version
from recsys_cl.publishing.parts import GIVEN_FILES, read_parts
from recsys_cl.publishing.release import publish_release
from recsys_cl.publishing.seal import check_seal, find_damages, read_manifest
from recsys_cl.publishing.store import read_current

Publish = Callable[..., str]
CHILD = Path(__file__).with_name("publish_child.py")


def start_child(store: Path, folder: Path, *more: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(store), str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]


def describe_store(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes() for path in (store / "releases").rglob("*") if path.is_file()
    }


def check_whole(store: Path) -> str:
    """The live release, with every byte checked."""
    version = read_current(store)
    folder = store / "releases" / version
    manifest = read_manifest(folder)
    assert find_damages(folder, manifest, hashes=True) == []
    read_parts(folder, manifest)
    return version


def test_a_release_holds_what_was_given(publish: Publish, small_release: ModuleType, tmp_path: Path) -> None:
    version = publish(tmp_path / "s")
    folder = tmp_path / "s" / "releases" / version
    manifest = check_seal(folder)
    given = small_release.make_parts(tmp_path / "again", small_release.World())
    found = read_parts(folder, manifest)
    for name, array in given.get_arrays().items():
        np.testing.assert_array_equal(found.get_arrays()[name], array)
        assert (found.get_arrays()[name].dtype, manifest.arrays[name].shape) == (array.dtype, array.shape)
    assert found.catalog.to_frame().equals(given.catalog.to_frame())
    assert found.users.array.equals(given.users.array)
    assert found.user_attributes is not None
    assert found.user_attributes.column("age").to_pylist() == given.user_attributes.column("age").to_pylist()
    assert (manifest.n_items, manifest.n_users, manifest.dim, manifest.bag_dim, manifest.popularity_dim) == (
        60,
        40,
        8,
        7,
        7,
    )
    assert all((folder / name).read_bytes() == given.files[name].read_bytes() for name in GIVEN_FILES)
    assert {path.name for path in folder.iterdir()} == {*manifest.files, "manifest.json"}


def test_current_holds_the_name_and_nothing_else(publish: Publish, tmp_path: Path) -> None:
    version = publish(tmp_path / "s")
    current = tmp_path / "s" / "releases" / "CURRENT"
    assert current.read_bytes() == version.encode()
    assert is_version(version)
    assert not current.is_symlink()


def test_each_release_names_its_parent(publish: Publish, tmp_path: Path) -> None:
    first, second = publish(tmp_path / "s"), publish(tmp_path / "s", seed=1)
    releases = tmp_path / "s" / "releases"
    assert read_manifest(releases / first).parent is None
    assert read_manifest(releases / second).parent == first
    assert read_current(tmp_path / "s") == second


def test_releases_are_listed_oldest_first(publish: Publish, tmp_path: Path) -> None:
    names = [publish(tmp_path / "s", seed=seed) for seed in range(3)]
    listed = list_releases(tmp_path / "s")
    assert [known["release"] for known in listed] == names
    assert [known["live"] for known in listed] == [False, False, True]
    assert all(set(known) == {"release", "live", "created", "metrics", "gate"} for known in listed)
    assert listed[0]["metrics"] == {"model": {"ndcg@10": 0.3}}


def test_broken_releases_are_listed_as_broken(publish: Publish, tmp_path: Path) -> None:
    names = [publish(tmp_path / "s", seed=seed) for seed in range(3)]
    releases = tmp_path / "s" / "releases"
    (releases / names[0] / "manifest.json").write_text("{")
    (releases / names[1] / "index.faiss").unlink()
    (releases / "CURRENT").write_text("nonsense")
    (releases / "notes").mkdir()
    listed = list_releases(tmp_path / "s")
    assert [known["release"] for known in listed] == names
    assert "manifest.json" in listed[0]["broken"]
    assert "index.faiss" in listed[1]["broken"]
    assert "broken" not in listed[2]
    assert not any(known["live"] for known in listed)


def test_a_refused_release_leaves_no_trace(publish: Publish, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"rank 1\.0.*--force"):
        publish(tmp_path / "s", gate_reasons=["rank 1.0"])
    assert not (tmp_path / "s").exists()


def test_a_forced_release_says_so(publish: Publish, tmp_path: Path) -> None:
    version = publish(tmp_path / "s", gate_reasons=["rank 1.0"], forced="trying it")
    gate = read_manifest(tmp_path / "s" / "releases" / version).gate
    assert (gate.reasons, gate.forced, gate.passed) == (("rank 1.0",), "trying it", False)


def test_what_a_killed_process_left_goes_with_the_next_publish(publish: Publish, tmp_path: Path) -> None:
    releases = tmp_path / "s" / "releases"
    (releases / ".partial-abc").mkdir(parents=True)
    (releases / ".partial-abc" / "index.faiss").write_bytes(b"half")
    (releases / ".partial-def-CURRENT").write_text("half")
    version = publish(tmp_path / "s")
    assert {path.name for path in releases.iterdir()} == {"CURRENT", version}


def test_kill_around_a_first_publish_leaves_all_or_nothing(tmp_path: Path) -> None:
    """The process dies at each rename in turn, until it lives through all of them. Where strace is at hand,
    `test_reliability.py` does this at other system calls too."""
    code = (
        "import os, sys, signal, runpy; n = int(sys.argv.pop()); seen = [0]; sys.argv.pop(0)\n"
        "def die(event, args):\n"
        "    if event == 'os.rename' and 'releases' in str(args[0]):\n"
        "        seen[0] += 1\n"
        "        if seen[0] == n: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(die); sys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    for n in range(1, 40):
        store = tmp_path / str(n)
        command = [sys.executable, "-c", code, str(CHILD), str(store), str(tmp_path / "given"), "1", str(n)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            check_whole(store)
            assert n > 1, "nothing was killed"
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
        if (store / "releases" / "CURRENT").exists():
            check_whole(store)
        else:
            with pytest.raises(StoreError, match=r"no release yet|there is no store"):
                read_current(store)
    pytest.fail("still dying")


@pytest.mark.parametrize(("share", "first"), [(0.0, False), (0.2, False), (0.5, True), (0.9, False)])
def test_a_disk_that_refuses_to_write_changes_nothing(
    publish: Publish, tmp_path: Path, share: float, first: bool
) -> None:
    """No file may grow past a limit: writing fails with an error at any of the parts, as on a full disk."""
    store = tmp_path / "s"
    version = publish(tmp_path / "o" if first else store)
    sizes = [p.stat().st_size for p in ((tmp_path / "o" if first else store) / "releases" / version).iterdir()]
    before = describe_store(store) if not first else {}
    limit = int(share * max(sizes))
    code = (
        "import runpy, resource, signal, sys, os; import recsys_cl.publishing.release as r\n"
        "publish = r.publish_release\n"
        "def limited(*args):\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))\n"
        "    return publish(*args)\n"
        "r.publish_release = limited; sys.path.insert(0, os.path.dirname(sys.argv[1])); sys.argv.pop(0)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(CHILD), str(store), str(tmp_path / "given"), "1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "StoreError: nothing was published" in done.stderr
    assert "free some space" in done.stderr
    assert describe_store(store) == before
    assert not list((store / "releases").glob(".partial-*"))


def test_a_full_disk_changes_nothing(small_release: ModuleType, tmp_path: Path) -> None:
    """A real file system of few blocks, in a mount namespace of its own, so that nothing needs to be unmounted."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare to mount a small file system")
    small_release.make_parts(tmp_path / "given" / "1", small_release.World(seed=1))
    mount, python = tmp_path / "disk", sys.executable
    mount.mkdir()
    n_failed = 0
    for kilobytes in (20, 28, 36, 44, 400):
        script = (
            f"mount -t tmpfs -o size={kilobytes}k none {mount} || exit 77\n"
            f"{python} {CHILD} {mount}/s {tmp_path}/given 1 > {tmp_path}/o 2> {tmp_path}/e; echo rc $?\n"
            f"cd {mount}/s/releases && find . -type f | sort\n"
        )
        done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60)
        if done.returncode == 77 or "rc" not in done.stdout:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        lines = done.stdout.split("\n")[:-1]
        if lines[0] == "rc 0":
            assert "./CURRENT" in lines
        else:
            n_failed += 1
            assert lines == ["rc 2"], (tmp_path / "e").read_text()
            assert "nothing was published" in (tmp_path / "e").read_text()
    assert 2 <= n_failed < 5


def test_a_folder_that_cannot_be_written_is_named(publish: Publish, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a file")
    with pytest.raises(StoreError, match="nothing was published into"):
        publish(tmp_path / "s")


def test_a_read_only_store_is_untouched(publish: Publish, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare to mount a folder read-only")
    store = tmp_path / "s"
    publish(store)
    before = describe_store(store)
    script = (
        f"mount --bind {store} {store} && mount -o remount,ro,bind {store} || exit 77\n"
        f"{sys.executable} {CHILD} {store} {tmp_path}/given 1"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    assert done.returncode == 2
    assert "the right to write" in done.stderr
    assert describe_store(store) == before


def test_lost_permissions_change_nothing(
    publish: Publish, tmp_path: Path, run_bound: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    store = tmp_path / "s"
    publish(store)
    before = describe_store(store)
    (store / "releases").chmod(0o555)
    try:
        done = run_bound(CHILD, store, tmp_path / "given", "1")
    finally:
        (store / "releases").chmod(0o755)
    assert done.returncode == 2, done.stderr
    assert "the right to write" in done.stderr
    assert describe_store(store) == before


@pytest.mark.parametrize("where", ["rename", "replace"])
def test_a_failing_rename_changes_nothing(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    store = tmp_path / "s"
    publish(store)
    before = describe_store(store)
    original = getattr(Path, where)
    failed = []

    def fail_once(self: Path, target: Path) -> Path:
        if Path(target).parent == store / "releases" and not failed:
            failed.append(target)
            raise OSError(5, "Input/output error")
        return original(self, target)

    monkeypatch.setattr(Path, where, fail_once)
    with pytest.raises(StoreError, match="Input/output error"):
        publish(store, seed=1)
    assert failed
    assert describe_store(store) == before


def test_a_disk_that_returns_other_bytes_is_noticed(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys_cl.publishing import release

    def sync_and_spoil(folder: Path) -> None:
        path = folder / "item_embeddings.npy"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(release, "sync_tree", sync_and_spoil)
    with pytest.raises(SealError, match=r"item_embeddings\.npy"):
        publish(tmp_path / "s")
    assert list((tmp_path / "s" / "releases").iterdir()) == []


def test_two_publishers_both_appear_once(publish: Publish, tmp_path: Path) -> None:
    store = tmp_path / "s"
    publish(store)
    children = [start_child(store, tmp_path / f"c{n}", str(n + 1)) for n in range(3)]
    names = [child.communicate()[0].split()[-1] for child in children]
    assert all(child.returncode == 0 for child in children)
    listed = list_releases(store)
    assert len(set(names)) == 3
    assert {known["release"] for known in listed} >= set(names)
    assert len(listed) == 4
    parents = [read_manifest(store / "releases" / known["release"]).parent for known in listed]
    assert parents == [None, *(known["release"] for known in listed[:-1])]


def test_who_waits_too_long_is_told_for_whom(small_release: ModuleType, tmp_path: Path) -> None:
    from recsys_cl.publishing.store import lock_store

    store, world = tmp_path / "s", small_release.World()
    parts = small_release.make_parts(tmp_path / "given", world)
    with lock_store(store), pytest.raises(BusyError, match=f"process {os.getpid()} is publishing"):
        publish_release(parts, small_release.make_facts(world), store, wait_seconds=0.1)


def test_the_manifest_is_json_without_paths_of_this_machine(publish: Publish, tmp_path: Path) -> None:
    version = publish(tmp_path / "s")
    text = (tmp_path / "s" / "releases" / version / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["format"] == 2
