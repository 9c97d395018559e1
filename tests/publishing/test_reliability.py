"""What `benchmarks/reliability.py` measures at length, in small."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.releases.damages import try_damages
from benchmarks.releases.escapes import try_escapes
from benchmarks.releases.forks import Forks
from benchmarks.releases.hostile import MEMORY_MIB, Fuzzing, try_hostile
from benchmarks.releases.kills import Scene, count_calls, find_wrong, make_scenes, try_full_disk, try_kills
from benchmarks.releases.readers import read_while_publishing
from recsys_cl.config import Config
from recsys_cl.errors import StoreError
from recsys_cl.publishing.audit import read_audit
from recsys_cl.publishing.live import list_releases, move_current
from recsys_cl.publishing.release import publish_release
from recsys_cl.publishing.store import find_release, list_versions, lock_store, read_current
from recsys_cl.publishing.upkeep import roll_back
from recsys_cl.runs import create_run, open_run

Publish = Callable[..., str]
N_POINTS = 3  # of each scene, beside the renames; the long run takes all


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as warm:
        yield warm


@pytest.fixture(scope="module")
def traced(
    forks: Forks, program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[Scene, list[tuple[str, int, str]]]]]:
    """A folder to work in, and each scene with its system calls; skips where strace is missing or may not trace."""
    program("strace")
    work = tmp_path_factory.mktemp("kills")
    scenes = make_scenes(forks, work)
    try:
        return work, [(scene, count_calls(forks, scene, work)) for scene in scenes]
    except RuntimeError as error:
        pytest.skip(f"no process can be traced here: {error}")


Traced = tuple[Path, list[tuple[Scene, list[tuple[str, int, str]]]]]


def test_a_kill_at_a_system_call_leaves_the_old_or_the_new_release_live(forks: Forks, traced: Traced) -> None:
    work, scenes = traced
    rng = random.Random(0)
    for scene, calls in scenes:
        points = [(call, n) for call, n, _ in calls]
        assert len(points) > 30, "the calls of the work are not seen"
        drawn = rng.sample(points, N_POINTS) + [point for point in points if point[0].startswith("rename")][-2:]
        tally = try_kills(forks, scene, drawn, work)
        assert tally.wrong == []


def test_a_disk_that_is_full_at_a_system_call_leaves_the_live_release_as_it_is(forks: Forks, traced: Traced) -> None:
    work, scenes = traced
    rng = random.Random(1)
    for scene, calls in scenes[:3]:
        writing = [point for point in calls if point[0] in ("write", "fsync", "mkdir", "rename", "sendfile")]
        last = [point for point in writing if point[0] == "fsync"][-2:]
        tally = try_full_disk(forks, scene, [rng.choice(writing), *last], work)
        assert tally.points == 6
        assert tally.wrong == []


def test_what_a_kill_could_break_would_be_seen(traced: Traced, publish: Publish, tmp_path: Path) -> None:
    """The judge of the two tests above, on stores that are broken."""
    _, scenes = traced
    scene = scenes[0][0]
    version = publish(tmp_path / "s")
    assert list(find_wrong(scene, tmp_path / "s")) == []
    folder = tmp_path / "s" / "releases" / version
    whole = (folder / "index.faiss").read_bytes()
    (folder / "index.faiss").write_bytes(whole[:-1])
    assert any("index.faiss" in wrong for wrong in find_wrong(scene, tmp_path / "s"))
    (folder / "index.faiss").write_bytes(whole)
    (tmp_path / "s" / "releases" / "CURRENT").write_text("x")
    assert any("unreadable" in wrong for wrong in find_wrong(scene, tmp_path / "s"))


def test_a_flush_that_fails_after_the_release_is_live_does_not_say_that_nothing_was_published(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recsys_cl.publishing import live

    sync = live.sync_path

    def fail_at_last(path: Path) -> None:
        if path == tmp_path / "s" / "releases" and (path / "CURRENT").exists():
            raise OSError(28, "No space left on device")
        sync(path)

    monkeypatch.setattr(live, "sync_path", fail_at_last)
    assert publish(tmp_path / "s") == read_current(tmp_path / "s")
    move_current(tmp_path / "s" / "releases", read_current(tmp_path / "s"))


def test_readers_beside_two_publishers_see_whole_releases_only(tmp_path: Path) -> None:
    found = read_while_publishing(tmp_path, 25, n_readers=1, n_publishers=2)
    (reading,) = found.readings
    assert (found.errors, found.published, len(set(found.names))) == ([], 50, 50)
    assert (reading.mixed, reading.refused) == ([], [])
    assert reading.queries > 10
    assert reading.releases > 2
    published = [line["to"] for line in read_audit(tmp_path / "store") if line["action"] == "publish"]
    assert sorted(published[1:]) == sorted(found.names)


def test_a_lock_left_by_a_dead_process_holds_nobody_up(forks: Forks, publish: Publish, tmp_path: Path) -> None:
    store = tmp_path / "s"
    first = publish(store)
    code = (
        "import sys; from pathlib import Path; from recsys_cl.publishing.store import lock_store\n"
        "with lock_store(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    ending = forks.run("publish", store=store, given=tmp_path / "given", seed=3, wait_seconds=0.0)
    assert ending.code == 2
    assert f"process {holder.pid} is publishing into the store" in ending.said
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert (store / ".lock").read_text() == str(holder.pid)
    ending = forks.run("publish", store=store, given=tmp_path / "given", seed=3, wait_seconds=0.0)
    assert ending.code == 0, ending.said
    assert [known["release"] for known in list_releases(store)] == [first, ending.said]


def test_damages_are_found_and_named(publish: Publish, tmp_path: Path) -> None:
    good, other = (tmp_path / name / "releases" / publish(tmp_path / name, seed=n) for n, name in enumerate("ab"))
    found = try_damages(good, other, tmp_path, 120)
    assert (found.made, found.undetected) == (120, [])


@pytest.mark.parametrize(("kind", "n_random"), [("flat", 1), ("hnsw", 0)])
def test_a_hostile_release_opens_or_is_refused_within_its_memory(
    forks: Forks, small_release: ModuleType, tmp_path: Path, kind: str, n_random: int
) -> None:
    store, world = tmp_path / "s", small_release.World(kind=kind)
    publish_release(small_release.make_parts(tmp_path / "given", world), small_release.make_facts(world), store)
    good = store / "releases" / read_current(store)
    ending = forks.run("ask", folders=[good], memory_mib=MEMORY_MIB)
    assert (ending.code, ending.said) == (0, "[True]")
    found = Fuzzing()
    try_hostile(forks, good, tmp_path, n_random, found)
    assert found.wrong == []
    assert found.tried == found.opened + found.refused >= 50
    assert found.refused > 30, "the hostile files are taken for good ones"


@pytest.fixture(scope="module")
def named(small_release: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a release and a run, in which names are looked for."""
    folder, world = tmp_path_factory.mktemp("named"), small_release.World()
    publish_release(
        small_release.make_parts(folder / "given", world), small_release.make_facts(world), folder / "store"
    )
    create_run(folder / "store", Config())
    return folder / "store"


@given(st.text() | st.from_regex(r"(\.\./|/|\0|\n)*\d{8}T\d{6}Z-[0-9a-f]{12}(-\d)?[\0\n/.]*"))
@example("20260101T000000Z-000000000000\n")
@example("../releases")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_name_that_is_none_of_the_store_is_refused(named: Path, name: str) -> None:
    for find in (find_release, open_run, roll_back):
        with pytest.raises(StoreError):
            find(named, name)
    assert (named / "releases" / read_current(named)).is_dir()


@pytest.mark.parametrize("name", ["runs", "raw", "releases", "pictures"])
def test_a_store_whose_parts_lie_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    store = tmp_path / "s"
    store.mkdir()
    (tmp_path / "outside").mkdir()
    (store / name).symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match=f"{name} is a link"):
        create_run(store, Config())
    if name == "releases":
        with pytest.raises(StoreError, match="releases is a link"), lock_store(store):
            pass
    assert not list((tmp_path / "outside").iterdir())


def test_ids_names_and_links_write_nothing_outside_the_store(tmp_path: Path) -> None:
    found = try_escapes(tmp_path, every=17)
    assert (found.outside, found.odd) == ([], [])
    assert found.attempts > 300
    ingest = json.loads(next((tmp_path / "store" / "runs").glob("*/ingest.json")).read_text())
    assert ingest["items"]["n_outside"] > 10
    assert len(list_versions(tmp_path / "store")) == 1
