"""Names that want out: comes in an empty folder, goes out what was written beside the store, which must be nothing.

A log whose ids are paths, links and control characters is run through the real pipeline; then each such name is given
to every command that takes one, and links are planted in the store where the package makes its own files. Everything
beside the store, the working folder and the home among it, is compared before and after, byte by byte; and the folders
above are searched for a token that is part of every name.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.releases.server import load_small
from recsys_cl.cli import app
from recsys_cl.config import Config, build_config
from recsys_cl.door import run_app
from recsys_cl.errors import RecsysError
from recsys_cl.files import hash_file
from recsys_cl.pipeline import run_all
from recsys_cl.publishing.release import publish_release
from recsys_cl.publishing.store import list_versions, read_current
from recsys_cl.publishing.upkeep import prune_store, roll_back, verify_store
from recsys_cl.runs import create_run, open_run
from recsys_cl.serving.lookup import open_release

TOKEN = "escape-7f3a9c"
_CODES = (0, 1, 2)  # of a command that came to its end
_State = dict[str, tuple[object, ...]]


@dataclass
class Escapes:
    """attempts: names given to something that writes; outside: what was written beside the store, in words; odd: what
    ended otherwise than with an answer or a message."""

    attempts: int = 0
    outside: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


def list_names(outside: Path) -> list[str]:
    """Names that lead, or may lead, out of a folder to `outside`, and some that break lines, tables and shells."""
    up = [f"{'../' * n}{TOKEN}-{n}" for n in (1, 2, 3, 5)]
    links = [str(outside / "link"), "link", "link/x", f"releases/../../{TOKEN}"]
    absolute = [str(outside / f"{TOKEN}-a"), f"//tmp/{TOKEN}", f"/tmp/{TOKEN}/x", f"file:///tmp/{TOKEN}"]
    control = [f"{TOKEN}\0x", f"../{TOKEN}\0", f"{TOKEN}\nx", f"\n../{TOKEN}", f"\x1b[2J{TOKEN}", f"{TOKEN}\r", "\x7f"]
    shell = [f"$(touch {outside}/{TOKEN})", f"`touch {outside}/{TOKEN}`", f"; touch {outside}/{TOKEN}", "~/x", "-rf"]
    other = [".", "..", "...", "/", "//", "a/b", "a\\..\\..\\b", "C:\\x", "%2e%2e%2fx", "..%00", "CURRENT", "*", "NUL"]
    return [*up, *links, *absolute, *control, *shell, *other, f"{TOKEN}-{'x' * 5000}", "\u202e" + TOKEN, "é/../é"]


def try_escapes(work: Path, every: int = 1) -> Escapes:
    """Run the pipeline on hostile ids, every command on hostile names, and plant links; `work` is an empty folder.

    every: commands get one name of so many; ids are always all of them.
    """
    found = Escapes()
    store, outside = work / "store", work / "outside"
    _make_outside(outside)
    config = _write_inputs(work, store, outside)
    with _live_in(outside), _watch(work, store, found):
        run_all(create_run(store, config))
        found.attempts += 3 * len(list_names(outside))  # as items, as users, as paths of pictures
        for _ in _give_names(store, list_names(outside)[::every], found):
            found.attempts += 1
    _fill(work / "template", work)
    for name, plant in _PLANTS.items():
        planted = work / "planted" / "store"
        shutil.rmtree(planted.parent, ignore_errors=True)
        shutil.copytree(work / "template", planted)
        plant(planted, outside)
        with _live_in(outside), _watch(work, planted.parent, found, name):
            found.attempts += _use(planted, work)
    return found


def _make_outside(outside: Path) -> None:
    """Files and folders that must stay as they are; the working folder and the home lie there."""
    for name in ("folder", "home", "cwd", "empty"):
        (outside / name).mkdir(parents=True)
    for name in ("file", "folder/file", "home/x", "cwd/x", "folder/CURRENT", "folder/audit.jsonl"):
        (outside / name).write_text("outside")
    for name in ("link", "cwd/link"):
        (outside / name).symlink_to(outside / "folder")


def _write_inputs(work: Path, store: Path, outside: Path) -> Config:
    names, rng = list_names(outside), np.random.default_rng(0)
    items = names + [f"item-{n}" for n in range(20)]
    users = names + [f"user-{n}" for n in range(20)]
    n_events = 1500
    log = pl.DataFrame(
        {
            "user_id": [users[n] for n in rng.integers(0, len(users), n_events)],
            "item_id": [items[n] for n in rng.integers(0, len(items), n_events)],
            "timestamp": 1_700_000_000 + 600 * np.arange(n_events),
        }
    )
    log.write_parquet(work / "log.parquet")
    known = pl.DataFrame({"item_id": items, "title": items[::-1], "image_path": (names * 2)[: len(items)]})
    known.write_parquet(work / "items.parquet")
    pl.DataFrame({"user_id": users, names[0]: users[::-1]}).write_parquet(work / "users.parquet")
    inputs = {"log": "log.parquet", "items": "items.parquet", "users": "users.parquet"}
    return build_config(
        {
            "ingest": {key: str(work / name) for key, name in inputs.items()},
            "model": {"dim": 8},
            "training": {"epochs": 2, "validate_every": 1, "batch_users": 32, "n_threads": 1, "least_steps": 0},
            "recipe": {"search": False},
            "evaluation": {"n_resamples": 100},
            "publishing": {"require_gain": False, "least_effective_rank": 0.0, "store": str(store)},
        }
    )


def _give_names(store: Path, names: list[str], found: Escapes) -> Iterator[None]:
    """Each name to every command that takes one; exports go where they are told, inside the store."""
    for what, form in (("recommendations", ".parquet"), ("neighbors", ".csv"), ("embeddings", "")):
        _command(["export", what, "--out", str(store / f"{what}{form}")], store, found)
        yield
    for name in names:
        for tokens in (
            ["similar", name],
            ["recommend", f"--user={name}"],
            ["recommend", f"--history={name}"],
            ["rollback", f"--to={name}"],
            ["diff", name, name],
            ["rebuild", name],
            ["run", f"--run={name}"],
            ["publish", f"--run={name}"],
            ["compare", name, name],
        ):
            _command(tokens, store, found)
            yield
    for name in names:  # last: it takes a user out of all of the above
        _command(["forget", f"--user={name}"], store, found)
        yield


def _command(tokens: list[str], store: Path, found: Escapes) -> None:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            code = run_app(app, [*tokens, "--store", str(store)])
        except SystemExit as error:
            code = int(error.code or 0)
        except Exception as error:  # whatever it is, it should have been a message
            found.odd.append(f"{tokens}: {type(error).__name__}: {error}")
            return
    if code not in _CODES:
        found.odd.append(f"{tokens}: exit code {code}: {shown.getvalue()[-200:]}")


def _fill(store: Path, work: Path) -> None:
    """A store with three small releases, and a run."""
    for seed in range(3):
        _publish(store, work, seed)
    create_run(store, Config())


def _publish(store: Path, work: Path, seed: int) -> None:
    small = load_small()
    world = small.World(seed=seed)
    publish_release(small.make_parts(work / "given" / str(seed), world), small.make_facts(world), store, 1.0)


def _use(store: Path, work: Path) -> int:
    """Everything that writes into a store; each may refuse. Gives how many there were."""
    uses: tuple[Callable[[], object], ...] = (
        lambda: open_release(store),
        lambda: roll_back(store),
        lambda: _publish(store, work, 7),
        lambda: verify_store(store),
        lambda: prune_store(store, 1),
        lambda: create_run(store, Config()),
        lambda: open_run(store).finish("ingest", 1.0),
    )
    for use in uses:
        with contextlib.suppress(RecsysError, OSError):
            use()
    return len(uses)


def _replace(name: str, target: str) -> Callable[[Path, Path], None]:
    """A link in the place of something of the store; `{live}`, `{old}`, `{run}` stand for names that are there."""

    def plant(store: Path, outside: Path) -> None:
        live = read_current(store)
        old = next(version for version in list_versions(store) if version != live)
        run = next((store / "runs").iterdir()).name
        path = store / name.format(live=live, old=old, run=run)
        if path.is_dir():
            # What the link leads to looks as it should, so that only the link itself can be refused.
            if target == "folder":
                shutil.copytree(path, outside / "folder" / path.name, dirs_exist_ok=True)
            shutil.rmtree(path)
            path.symlink_to(outside / "folder" / path.name if target == "folder" else outside / target)
        else:
            path.unlink(missing_ok=True)
            path.symlink_to(outside / target)

    return plant


_PLANTS = {
    f"{name} → {target}": _replace(name, target)
    for name, targets in {
        "releases": ("folder", "empty", "nowhere"),
        "runs": ("folder", "empty", "nowhere"),
        "releases/CURRENT": ("file", "nowhere"),
        "releases/{live}": ("folder", "empty"),
        "releases/{old}": ("folder", "empty"),
        "releases/{live}/manifest.json": ("file", "nowhere"),
        "releases/{old}/index.faiss": ("file",),
        "releases/.partial-x": ("folder", "file", "nowhere"),
        "runs/{run}": ("folder", "empty"),
        "runs/{run}/run.json": ("file", "nowhere"),
        ".lock": ("file", "nowhere"),
        "audit.jsonl": ("file", "nowhere"),
        "raw": ("empty", "nowhere"),
    }.items()
    for target in targets
}


@contextlib.contextmanager
def _live_in(outside: Path) -> Iterator[None]:
    """Work in a folder beside the store, with a home there."""
    home = os.environ.get("HOME")
    os.environ["HOME"] = str(outside / "home")
    try:
        with contextlib.chdir(outside / "cwd"):
            yield
    finally:
        if home is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = home


@contextlib.contextmanager
def _watch(work: Path, store: Path, found: Escapes, what: str = "pipeline and commands") -> Iterator[None]:
    """Note what changes below `work` beside `store`, and names with the token in any folder above."""
    before = _look(work, store)
    yield
    after = _look(work, store)
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    found.outside += [f"{what}: {path}" for path in changed]
    for folder in (*work.parents, Path("/tmp")):
        with contextlib.suppress(OSError):
            found.outside += [f"{what}: {path}" for path in folder.iterdir() if TOKEN in path.name]


def _look(work: Path, store: Path) -> _State:
    """Kind, size, times and bytes of everything below `work`, but not below `store` nor what the tests themselves are
    made of."""
    state: _State = {}
    for folder, folders, files in os.walk(work):
        folders[:] = [name for name in folders if Path(folder, name) not in (store, work / "given")]
        for name in (".", *folders, *files):
            path = Path(folder, name)
            info = path.lstat()
            if stat.S_ISLNK(info.st_mode):
                content = str(path.readlink())
            else:
                content = hash_file(path) if stat.S_ISREG(info.st_mode) else ""
            # The store comes and goes in `work` itself, whose size and times tell of that.
            more = (info.st_size, info.st_mtime_ns, info.st_ctime_ns) if path != work else ()
            state[str(path)] = (info.st_mode, *more, content)
    return state
