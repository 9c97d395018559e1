"""Forgetting: no field of any file names the user again, all other answers stay, whatever stops it on its way."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

from recsys_cl import forgetting
from recsys_cl.config import Config
from recsys_cl.errors import InputError, SealError, StoreError
from recsys_cl.files import read_json
from recsys_cl.forgetting import forget
from recsys_cl.interactions.table import Interactions
from recsys_cl.pipeline import Outcome, run_stage
from recsys_cl.publishing.audit import read_audit
from recsys_cl.publishing.live import list_releases
from recsys_cl.publishing.receipts import hash_user, read_due, read_key
from recsys_cl.publishing.seal import read_manifest
from recsys_cl.publishing.store import list_versions, read_current
from recsys_cl.publishing.upkeep import roll_back, verify_store
from recsys_cl.runs import claim_run, create_run, open_run
from recsys_cl.serving.lookup import open_release


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("forgetting_store", Path(__file__).with_name("forgetting_store.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["forgetting_store"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


given = _load()
ODD, ERASED = given.ODD, given.ERASED
Command = Callable[..., subprocess.CompletedProcess[str]]
N_KILLS = 9


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store that names users everywhere; only to be copied."""
    return given.make_store(tmp_path_factory.mktemp("forgetting")).parent


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "store", tmp_path / "store")
    return tmp_path / "store"


def walk_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from walk_texts(part)


def read_values(path: Path) -> Iterator[str]:
    """Every value of a file as text, without the code under test; a refused row also value by value."""
    if path.suffix == ".parquet":
        frame = pl.read_parquet(path)
    elif path.suffix == ".arrow":
        frame = pl.DataFrame(pl.from_arrow(pa.ipc.open_file(path).read_all()))
    elif path.suffix == ".csv":
        frame = pl.read_csv(path, infer_schema=False)
    elif path.suffix in (".json", ".jsonl"):
        for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            with contextlib.suppress(ValueError):  # a small release has any bytes for its evaluation
                yield from walk_texts(json.loads(line))
        return
    else:
        return
    for series in frame:
        for value in series.cast(pl.String).drop_nulls():
            yield value
            if series.name == "content":
                try:
                    yield from walk_texts(json.loads(value))
                except ValueError:
                    yield from value.replace('"', " ").split()
                    yield (
                        ODD
                        if json.dumps(ODD)[1:-1] in value or json.dumps(ODD, ensure_ascii=False)[1:-1] in value
                        else ""
                    )


def find_named(store: Path, users: tuple[str, ...]) -> list[str]:
    """Each file of a store, and each name of one, that holds one of the users."""
    files = [path for path in store.rglob("*") if path.is_file()]
    return [str(path.relative_to(store)) for path in files if not {*users}.isdisjoint(read_values(path))]


def read_all(store: Path) -> dict[str, bytes]:
    """Every byte of a store but its locks and its key."""
    paths = (path for path in store.rglob("*") if path.is_file() and path.name not in (".lock", ".claim", "key"))
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


def answer_all(store: Path, version: str, left_out: tuple[str, ...]) -> dict[str, Any]:
    """Every answer of a release, for all items and all users but some."""
    release = open_release(store / "releases" / version)
    items = release.parts.catalog.items.to_series()
    users = [user for user in release.parts.users.to_series() if user not in left_out]
    seen = {user: release.answer_user(user, 5, include_seen=True) for user in users}
    return {
        "similar": {item: release.answer_similar(item, 5) for item in items},
        "users": {user: release.answer_user(user, 5) for user in users},
        "with seen": seen,
        "history": release.answer_history([items[3], items[5]], 5),
    }


def test_nobody_is_named_again_and_everybody_else_is_answered_as_before(store: Path, made: Path) -> None:
    named = find_named(store, ERASED)
    assert {Path(name).suffix for name in named} == {".arrow", ".parquet", ".csv", ".jsonl"}
    versions = list_versions(store)
    before = {version: answer_all(store, version, ERASED) for version in versions}
    live, run = read_current(store), open_run(store, (made / "store" / "runs").iterdir().__next__().name)
    done = forget(store, ERASED)
    assert find_named(store, ERASED) == []
    assert done.receipt.found == []
    renamed = done.receipt.releases
    assert set(renamed) == set(versions)
    assert set(list_versions(store)) == set(renamed.values())
    assert read_current(store) == renamed[live] == done.live
    assert all(answer_all(store, renamed[version], ERASED) == before[version] for version in versions)
    assert not any(verify_store(store).values())
    assert list(run.read_stages()) == ["ingest"]
    assert {path.name for path in run.folder.iterdir()} == {
        *(".claim", "given-users.parquet", "ingest.json", "interactions", "opened.json", "refused.parquet", "run.json"),
        "users.parquet",
    }
    assert not list(store.rglob(".partial-*"))


def test_what_is_left_of_a_release_is_what_it_was(store: Path, made: Path) -> None:
    renamed = forget(store, ERASED).receipt.releases
    for version, successor in renamed.items():
        one = open_release(made / "store" / "releases" / version)
        other = open_release(store / "releases" / successor)
        kept = ~one.parts.users.to_series().is_in([*ERASED]).to_numpy()
        seen = np.repeat(kept, one.parts.seen.sizes)
        for name, rows in (("user_embeddings", kept), ("evaluated_users", kept)):
            np.testing.assert_array_equal(other.parts.get_arrays()[name], one.parts.get_arrays()[name][rows])
        for name in ("seen_items", "evaluated_seen"):
            np.testing.assert_array_equal(other.parts.get_arrays()[name], one.parts.get_arrays()[name][seen])
        np.testing.assert_array_equal(other.parts.seen.sizes, one.parts.seen.sizes[kept])
        assert one.parts.user_attributes is not None
        assert other.parts.user_attributes is not None
        assert other.parts.user_attributes.equals(one.parts.user_attributes.filter(pa.array(kept)))
        towers = [load_file(release.folder / "towers.safetensors") for release in (one, other)]
        np.testing.assert_array_equal(towers[1]["tables.user.table"], towers[0]["tables.user.table"][kept])
        np.testing.assert_array_equal(towers[1]["tables.bag.table"], towers[0]["tables.bag.table"])
        same = {"index.faiss", "item_embeddings.npy", "catalog.arrow", "query_tower.onnx", "evaluation.json"}
        assert all(one.manifest.files[name] == other.manifest.files[name] for name in same)
        assert other.manifest.created == one.manifest.created
        assert other.manifest.erasure is not None
        assert (other.manifest.erasure.reason, other.manifest.erasure.of) == ("erasure", version)
        assert other.manifest.erasure.n_users == (~kept).sum()


def test_parents_are_successors_so_that_one_can_roll_back(store: Path) -> None:
    order = [known["release"] for known in list_releases(store)]
    renamed = forget(store, [ODD]).receipt.releases
    assert [known["release"] for known in list_releases(store)] == [renamed[version] for version in order]
    parents = [read_manifest(store / "releases" / renamed[version]).parent for version in order]
    assert parents == [None, renamed[order[0]], renamed[order[1]]]
    assert roll_back(store) == {"from": renamed[order[2]], "to": renamed[order[1]]}
    assert roll_back(store)["to"] == renamed[order[0]]
    again = forget(store, ["u5"]).receipt.releases
    assert read_current(store) == again[renamed[order[0]]]
    erased = read_manifest(store / "releases" / read_current(store)).erasure
    assert erased is not None
    assert (erased.of, erased.n_users) == (renamed[order[0]], 2)


def test_a_run_is_left_as_if_it_had_been_ingested_without_them(store: Path, made: Path, tmp_path: Path) -> None:
    forget(store, ERASED)
    other = given.ingest(tmp_path / "other", given.write_log(tmp_path / "log", ERASED))
    run = open_run(store)
    one, two = (Interactions.read(folder.folder / "interactions") for folder in (run, other))
    assert one.users.array.equals(two.users.array)
    assert one.items.array.equals(two.items.array)
    for name in ("offsets", "item_rows", "times", "weights"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    reports = [read_json(folder.folder / "ingest.json") for folder in (run, other)]
    for name in ("n_read", "n_kept", "refused", "n_users", "n_items", "n_events", "first_time", "last_time"):
        assert reports[0][name] == reports[1][name], name
    refused = [pl.read_parquet(folder.folder / "refused.parquet") for folder in (run, other)]
    contents = [sorted(frame["content"].to_list()) for frame in refused]
    assert contents[0] == contents[1]
    before = read_json(next((made / "store" / "runs").iterdir()) / "ingest.json")
    assert before["fingerprint"] != reports[0]["fingerprint"]


def test_the_next_ingest_reads_nothing_anew_and_brings_nobody_back(store: Path, made: Path) -> None:
    before = read_json(next((made / "store" / "runs").iterdir()) / "ingest.json")
    forget(store, ERASED)
    left = read_json(open_run(store).folder / "ingest.json")
    again = create_run(store, open_run(store).config)
    run_stage(again, "ingest")  # its report refuses counts that do not add up
    report = read_json(again.folder / "ingest.json")
    assert [file["status"] for file in report["files"]] == ["kept", "kept"]
    assert report["n_read"] == left["n_read"] == sum(file["n_rows"] for file in report["files"]) < before["n_read"]
    assert report["refused"] == left["refused"]
    assert report["fingerprint"] not in (before["fingerprint"], left["fingerprint"])
    assert find_named(store, ERASED) == []


def test_a_receipt_names_nobody_and_what_is_out_of_reach(store: Path, made: Path) -> None:
    done = forget(store, [*ERASED, "u5"])
    key = read_key(store)
    assert key is not None
    assert done.receipt.users == sorted(hash_user(key, user) for user in ERASED)
    assert (store / "erasures" / "key").stat().st_mode & 0o777 == 0o600
    written = b"".join(path.read_bytes() for path in (store / "erasures").iterdir())
    written += (store / "audit.jsonl").read_bytes() + (store / "retraining_due.json").read_bytes()
    for form in ('"u5"', json.dumps(ODD), json.dumps(ODD, ensure_ascii=False), ODD):
        assert form.encode() not in written
    assert read_json(done.path) == done.receipt.dump()
    assert str(made / "log") in done.receipt.logs
    assert done.receipt.outside == [str(made / "outside" / "r.parquet"), "table 'r' of sqlite:///there.db"]
    assert set(done.receipt.exports) == {
        *(f"exports/{name}" for name in ("r.csv", "r.jsonl", "recommendations.parquet")),
        "mine/part-0.parquet",
    }
    assert sorted(done.receipt.sources) == ["a.jsonl", "b.jsonl"]
    trail = [(line["from"], line["to"]) for line in read_audit(store) if line["action"] == "erasure"]
    live = next(before for before, after in trail if after == done.live)
    assert trail[0] == (live, done.live)
    assert {before for before, after in trail if after is None} == set(done.receipt.releases)


def test_exports_keep_every_other_line(store: Path, made: Path) -> None:
    forget(store, ERASED)
    before = pl.read_parquet(made / "store" / "exports" / "recommendations.parquet")
    kept = before.filter(~pl.col("user_id").is_in([*ERASED]))
    assert 0 < kept.height < before.height
    assert pl.read_parquet(store / "exports" / "recommendations.parquet").equals(kept)
    assert pl.read_parquet(store / "mine" / "part-0.parquet").equals(kept)
    kept = kept.with_columns(pl.col("release").cast(pl.String))
    schema = dict(kept.schema)
    assert pl.read_ndjson(store / "exports" / "r.jsonl", schema=schema).equals(kept)
    assert pl.read_csv(store / "exports" / "r.csv", schema=schema).equals(kept)


def test_an_unknown_user_changes_nothing(store: Path) -> None:
    before = read_all(store)
    with pytest.raises(InputError, match=r"no user 'u99' and 1 more .*nothing was changed"):
        forget(store, ["u5", "u99", "\x00"])
    for bad in ([], [""], ["\udc80"]):
        with pytest.raises(InputError):
            forget(store, bad)
    assert read_all(store) == before
    with pytest.raises(StoreError, match="is not a store"):
        forget(store / "exports", ["u5"])
    done = forget(store, ["u5"])
    with pytest.raises(InputError, match=f"it was erased before: {done.path}"):
        forget(store, ["u5"])


@pytest.mark.parametrize("kept", ["raw", "runs", "exports"])
def test_a_user_of_no_release_is_erased_all_the_same(store: Path, kept: str) -> None:
    shutil.rmtree(store / "releases")
    for name in {"raw", "runs", "exports", "mine"} - {kept}:
        shutil.rmtree(store / name)
    (store / "raw").mkdir(exist_ok=True)
    done = forget(store, [ODD])
    assert find_named(store, (ODD,)) == []
    assert done.live is None
    assert not done.receipt.retraining
    assert read_due(store) == []
    assert find_named(store, ("u6",))


def test_whoever_works_on_a_run_is_not_disturbed(store: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from recsys_cl.runs import *\n"
        "from recsys_cl.runs import claim_run; from recsys_cl.config import Config\n"
        "with claim_run(Run(Path(sys.argv[1]), sys.argv[2], Config())): print('held', flush=True); sys.stdin.read()"
    )
    run = next((store / "runs").iterdir()).name
    child = subprocess.Popen([sys.executable, "-c", code, store, run], stdin=-1, stdout=-1, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    before = read_all(store)
    with pytest.raises(StoreError, match=f"working on run {run}"):
        forget(store, ["u5"])
    assert read_all(store) == before
    child.communicate("")
    assert forget(store, ["u5"]).receipt.runs == [run]


def test_a_release_that_cannot_be_read_stops_it_before_anything_is_changed(store: Path) -> None:
    path = store / "releases" / list_versions(store)[0] / "index.faiss"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    before = read_all(store)
    with pytest.raises(SealError, match=r"index\.faiss.*cannot be rewritten"):
        forget(store, ERASED)
    path.write_bytes(data)
    (path.parent / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match=r"delete that folder"):
        forget(store, ERASED)
    path = store / "exports" / "recommendations.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    shutil.rmtree(store / "releases")
    with pytest.raises(StoreError, match=r"recommendations\.parquet cannot be read"):
        forget(store, ERASED)
    changed = {name for name, data in read_all(store).items() if before[name] != data}
    assert changed == {"exports/recommendations.parquet"}


@pytest.mark.parametrize("call", ["stage_successor", "erase_part", "stage_run", "write_pending", "move_current"])
def test_a_full_disk_leaves_everything_as_it_was(store: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = read_all(store)
    monkeypatch.setattr(forgetting, call, refuse)
    with pytest.raises(StoreError, match=r"nothing was erased.*No space left.*free some space"):
        forget(store, ERASED)
    assert read_all(store) == before
    monkeypatch.undo()
    forget(store, ERASED)
    assert find_named(store, ERASED) == []


@pytest.mark.parametrize("limit", [100, 1000, 2000])
def test_files_that_cannot_grow_leave_everything_as_it_was(store: Path, limit: int) -> None:
    """No file may grow past a limit: writing itself fails, at any of the parts."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from recsys_cl.forgetting import forget\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))\n"
        "try: forget(Path(sys.argv[1]), sys.argv[2:])\n"
        "except BaseException as error: print(type(error).__name__, error)\n"
    )
    before = read_all(store)
    done = subprocess.run([sys.executable, "-c", code, store, *ERASED], capture_output=True, text=True)
    assert done.stdout.startswith("StoreError nothing was erased"), done.stdout + done.stderr
    assert read_all(store) == before
    assert not list(store.rglob(".partial-*"))


def test_killed_at_any_moment_a_release_is_live_and_the_same_command_finishes(
    store: Path, made: Path, tmp_path: Path
) -> None:
    """The process dies at uses of a system call that changes the store, spread over all of them."""
    code = (
        "import os, signal, sys; from pathlib import Path; from recsys_cl.forgetting import forget\n"
        "n, seen = int(sys.argv[2]), [0]\n"
        "def die(event, args):\n"
        "    if event in ('os.rename', 'os.remove', 'os.rmdir', 'os.mkdir') and sys.argv[1] in str(args[0]):\n"
        "        seen[0] += 1\n"
        "        if seen[0] == n: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(die); forget(Path(sys.argv[1]), sys.argv[3:]); print(seen[0])\n"
    )

    def run(place: Path, n: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, place, str(n), *ERASED]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    done = run(store, 0)
    assert done.returncode == 0, done.stderr
    expected = {name: data for name, data in read_all(store).items() if name.startswith(("releases/", "raw/"))}
    for n in np.linspace(1, int(done.stdout), N_KILLS).astype(int):
        place = tmp_path / str(n)
        shutil.copytree(made / "store", place)
        assert run(place, int(n)).returncode == -signal.SIGKILL
        assert not any(verify_store(place).values())
        open_release(place)
        if list(place.glob("erasures/*Z-*.json")) and not (place / "erasures" / "pending.json").exists():
            with pytest.raises(InputError, match="it was erased before"):  # all that was left to do was to end
                forget(place, ERASED)
        else:
            finished = forget(place, ERASED).receipt
            assert (finished.found, len(finished.releases)) == ([], 3)
            assert finished.exports
            assert finished.runs
        assert find_named(place, ERASED) == []
        left = {name: data for name, data in read_all(place).items() if name.startswith(("releases/", "raw/"))}
        assert left == expected, n
        assert list(open_run(place).read_stages()) == ["ingest"]
        assert not (place / "runs" / open_run(place).run_id / "published.npy").exists()
        assert len(read_due(place)) == 1
        assert not list(place.rglob(".partial-*"))
        assert [path.name for path in (place / "erasures").iterdir() if path.name.startswith("pending")] == []


def test_an_erasure_that_was_begun_is_finished_before_another_one(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(forgetting, "mark_due", refuse)
    with pytest.raises(StoreError, match=r"was interrupted.*finishes what was begun"):
        forget(store, [ODD])
    monkeypatch.undo()
    with pytest.raises(StoreError, match="an erasure of 1 users"):
        forget(store, ["u5"])
    done = forget(store, [ODD, "u5"])
    assert len(done.receipt.users) == 2
    assert len(read_due(store)) == 1
    assert find_named(store, ERASED) == []


def test_what_is_named_again_meanwhile_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = forgetting.mark_due

    def write_meanwhile(place: Path, time: str) -> None:
        mark(place, time)
        pl.DataFrame({"user_id": ["u5"]}).write_parquet(place / "exports" / "late.parquet")

    monkeypatch.setattr(forgetting, "mark_due", write_meanwhile)
    assert forget(store, ["u5"]).receipt.found == ["exports/late.parquet"]
    monkeypatch.undo()
    assert forget(store, ["u5"]).receipt.found == []


def test_training_anew_on_what_is_left_ends_what_is_due(tiny_outcome: Outcome, tmp_path: Path) -> None:
    """Of a real run: the rest of it is trained and published, and its release knows nobody who is gone."""
    store = tmp_path / "store"
    shutil.copytree(tiny_outcome.run.store, store)
    user = open_release(store).parts.users.get_id(3)
    forget(store, [user])
    assert [known["retraining_due"] for known in list_releases(store)] == read_due(store) != []
    run = open_run(store)
    config = run.config.model_copy(
        update={"publishing": run.config.publishing.model_copy(update={"store": str(store)})}
    )
    run = type(run)(store, run.run_id, config)
    with claim_run(run):
        for stage in ("train", "evaluate", "publish"):
            run_stage(run, stage)
    assert read_due(store) == []
    assert open_release(store).parts.users.find_row(user) is None
    assert [known.get("retraining_due") for known in list_releases(store)] == [None, None]
    assert isinstance(config, Config)


def test_the_command_tells_what_it_did(recsys: Command, store: Path, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("u6\nu7\r\n")
    done = recsys("forget", "--user", ODD, "--user=u5", "--users", tmp_path / "users.txt", "--store", store)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 users erased from 3 releases, 1 runs, 2 sources, 4 exports\n")
    assert "retraining is due" in done.stdout
    assert "out of reach, and to be mended by hand: export" in done.stdout
    assert "checked: none of" in done.stdout
    assert "retraining is due" in recsys("releases", "--store", store).stdout
    assert "users were erased 1 times" in recsys("doctor", "--store", store).stdout
    assert recsys("verify", "--store", store).returncode == 0
    done = recsys("forget", "--user", "u5", "--store", store)
    assert (done.returncode, done.stdout) == (2, "")
    assert "it was erased before" in done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads(recsys("forget", "--user", "u8", "--store", store, "--json").stdout)
    assert set(found) >= {"receipt", "live", "users", "releases", "logs", "outside", "retraining", "found"}
    assert recsys("forget", "--store", store).returncode == 2
