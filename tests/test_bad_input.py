"""What a user can get wrong: exit 2 and one line that says what was found and what to do; nothing half-made is left."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from recsys_cl.cli import app
from recsys_cl.door import run_app
from recsys_cl.files import TEMPORARY
from recsys_cl.pipeline import Outcome

HEADER = "user_id,item_id,timestamp\n"
NOISE = random.Random(0).randbytes(4096)
GOOD = HEADER + "".join(f"u{n % 7},i{n % 5},{1_600_000_000 + n}\n" for n in range(60))

# A log, its name, and what the message has to say: what was found, and what to do.
UNREADABLE = {
    "an empty file": ("log.csv", "", ["log.csv is empty", "a header and rows"]),
    "another delimiter": ("log.csv", "user_id;item_id;timestamp\nu1;i1;1\n", ["split at ','", "ingest.delimiter=;"]),
    "tabs in a csv": ("log.csv", "user_id\titem_id\nu1\ti1\n", ["split at ','", 'ingest.delimiter="\\t"']),
    "commas in a tsv": ("log.tsv", GOOD, ["split at '\\t'", "ingest.delimiter=,"]),
    "no user": ("log.csv", "shop,item_id\na,b\n", ["the user", "'shop', 'item_id'", "ingest.user_column=NAME"]),
    "no item": ("log.csv", "user_id,what\na,b\n", ["the item", "'user_id', 'what'", "ingest.item_column=NAME"]),
    "no header": ("log.csv", "u1,i1,160\nu2,i2,170\n", ["'u1', 'i1', '160'", "expected a header"]),
    "two users": (
        "log.csv",
        "user_id,customer_id,item_id\na,b,c\n",
        ["could be the user: 'user_id', 'customer_id'", "ingest.user_column="],
    ),
    "two items": (
        "log.csv",
        "user_id,movieId,item_id\na,b,c\n",
        ["could be the item: 'movieId', 'item_id'", "ingest.item_column="],
    ),
    "two times": (
        "log.csv",
        "user_id,item_id,timestamp,event_time\na,b,1,2\n",
        ["could be the time: 'timestamp', 'event_time'", "ingest.time_column="],
    ),
    "noise as csv": ("log.csv", NOISE, ["log.csv is not a text file", "expected text"]),
    "noise as jsonl": ("log.jsonl", NOISE, ["log.jsonl is not a text file", "expected text"]),
    "noise as gzip": ("log.csv.gz", NOISE, ["log.csv.gz cannot be read", "whole, readable file"]),
    "noise as parquet": ("log.parquet", NOISE, ["log.parquet is not a Parquet file", "a whole Parquet file"]),
    "text as parquet": ("log.parquet", GOOD, ["log.parquet is not a Parquet file", "a whole Parquet file"]),
}
ROWS = {
    "only a header": (HEADER, ["no events", "rows"], {}),
    "no time that can be read": (
        HEADER + "u1,i1,never\nu1,i2,soon\nu2,i1,later\n",
        ["none of the 3 rows", "3 bad_time", "refused.parquet"],
        {"bad_time": 3},
    ),
    "absurd times": (
        HEADER + "u1,i1,99999999999999999999\nu1,i2,-5000000000000000\nu2,i1,1e400\n",
        ["none of the 3 rows", "3 absurd_time", "refused.parquet"],
        {"absurd_time": 3},
    ),
    "negative weights": (
        "user_id,item_id,rating\nu1,i1,-1\nu1,i2,-0.5\nu2,i1,-2\n",
        ["none of the 3 rows", "3 weight_not_positive"],
        {"weight_not_positive": 3},
    ),
    "NaN weights": (
        "user_id,item_id,rating\nu1,i1,nan\nu1,i2,NaN\nu2,i1,inf\n",
        ["none of the 3 rows", "3 bad_weight"],
        {"bad_weight": 3},
    ),
    "one user": (HEADER + "u1,i1,1600000000\nu1,i2,1600000100\n", ["one user only, 'u1'", "two or more"], {}),
    "one item": (HEADER + "u1,i1,1600000000\nu2,i1,1600000100\n", ["one item only, 'i1'", "two or more"], {}),
    "no user with two events": (
        HEADER + "u1,i1,1600000000\nu2,i2,1600000100\nu3,i3,never\n",
        ["none of the 2 users has two events", "two or more", "refused.parquet"],
        {"bad_time": 1},
    ),
}
RULES = {
    "a core that nobody reaches": (["ingest.core_users=1000"], ["none of the 60 rows", "60 core_user"]),
    "a time after all events": (["ingest.since=2035-01-31"], ["none of the 60 rows", "60 outside_date_window"]),
    "weights that are none": (["ingest.weight_column=timestamp"], ["none of the 60 rows", "60 bad_weight"]),
}
SETTINGS = {
    "an unknown section": ("no.such=1", ["no setting 'no.such=1'", "training"]),
    "an unknown key": ("training.epoch=1", ["no setting 'training.epoch=1'", "training.epochs"]),
    "no value": ("training.epochs", ["no setting 'training.epochs'", "section.key=value"]),
    "a value out of bounds": ("training.epochs=0", ["training.epochs is 0", "1"]),
    "a word for a number": ("training.epochs=many", ["training.epochs is 'many'", "integer"]),
    "no time": ("ingest.since=soon", ["ingest.since is 'soon'", "2024-01-31"]),
}
FILES = {
    "no TOML": ("[ingest\nlog = 1\n", ["given.toml is not TOML", "line 1"]),
    "an unknown section": ("[ingestion]\nlog = 'x'\n", ["'ingestion'", "ingest, split"]),
    "an unknown key": ("[ingest]\nlgo = 'x'\n", ["'ingest.lgo'", "log, items"]),
    "not UTF-8": (b"\xff\xfe\x00", ["given.toml cannot be read"]),
}


@pytest.fixture
def refuse(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """refuse(*arguments): the one line with which a command is refused; the store of the test is `tmp_path / "s"`."""

    def run(*arguments: str | Path) -> str:
        assert run_app(app, [str(argument) for argument in arguments]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        return check_refusal(err, tmp_path)

    return run


def check_refusal(err: str, folder: Path) -> str:
    """One line, and nothing half-made anywhere below `folder`, nor any release."""
    (line,) = err.splitlines()
    assert line.startswith("recsys-cl: ")
    assert "Traceback" not in line
    assert not list(folder.rglob(f"{TEMPORARY}*"))
    assert not list(folder.glob("s/releases/*"))
    return line


def expect(line: str, fragments: list[str]) -> None:
    assert [fragment for fragment in fragments if fragment not in line] == [], line


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- logs ---


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_log_that_cannot_be_opened_leaves_no_trace(case: str, refuse: Callable[..., str], tmp_path: Path) -> None:
    name, content, fragments = UNREADABLE[case]
    line = refuse("run", "--log", write(tmp_path / name, content), "--store", tmp_path / "s")
    expect(line, [*fragments, name])
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != name]


@pytest.mark.parametrize("log", ["missing.csv", "none*.csv", "empty", "no/such/folder/"])
def test_a_log_that_is_not_there_is_named(log: str, refuse: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = refuse("ingest", "--log", tmp_path / log, "--store", tmp_path / "s")
    expect(line, [str(tmp_path / log.rstrip("/"))])
    assert not list(tmp_path.glob("s/*"))


@pytest.mark.parametrize("case", ROWS)
def test_a_log_of_rows_that_cannot_be_used_keeps_what_was_refused(
    case: str, refuse: Callable[..., str], tmp_path: Path
) -> None:
    content, fragments, reasons = ROWS[case]
    line = refuse("run", "--log", write(tmp_path / "log.csv", content), "--store", tmp_path / "s")
    expect(line, fragments)
    (path,) = tmp_path.glob("s/runs/*/refused.parquet")
    refused = pl.read_parquet(path)
    assert dict(refused["reason"].value_counts().iter_rows()) == reasons
    assert all(content.splitlines()[n - 1] for n in refused["line"])
    if "refused.parquet" in fragments:
        assert str(path) in line


@pytest.mark.parametrize("case", RULES)
def test_rules_that_leave_nothing_say_which(case: str, refuse: Callable[..., str], tmp_path: Path) -> None:
    settings, fragments = RULES[case]
    log = write(tmp_path / "log.csv", GOOD)
    expect(refuse("run", "--log", log, "--store", tmp_path / "s", "--set", *settings), fragments)
    (path,) = tmp_path.glob("s/runs/*/refused.parquet")
    assert pl.read_parquet(path).height == 60


def test_a_broken_row_is_refused_and_the_rest_is_read(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", GOOD + "u1,i1,never\nu1,,1600000000\n")
    assert run_app(app, ["ingest", "--log", str(log), "--store", str(tmp_path / "s")]) == 0
    assert "rows read 62, kept 60, refused 2" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("option", "content", "fragments"),
    [
        ("--items", None, ["items.csv"]),
        ("--items", "name,color\na,red\n", ["items.csv", "'name', 'color'"]),
        ("--users", "", ["users.csv is empty; expected a header and rows"]),
        ("--users", "age\n3\n", ["users.csv", "'age'"]),
    ],
)
def test_a_bad_file_of_attributes_is_named(
    option: str, content: str | None, fragments: list[str], refuse: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / f"{option[2:]}.csv"
    if content is not None:
        write(path, content)
    log = write(tmp_path / "log.csv", GOOD)
    expect(refuse("run", "--log", log, option, path, "--store", tmp_path / "s"), fragments)


# --- configuration and options ---


@pytest.mark.parametrize("case", SETTINGS)
def test_a_bad_setting_says_what_may_be_set(case: str, refuse: Callable[..., str], tmp_path: Path) -> None:
    setting, fragments = SETTINGS[case]
    log = write(tmp_path / "log.csv", GOOD)
    expect(refuse("run", "--log", log, "--store", tmp_path / "s", "--set", setting), fragments)
    assert not list(tmp_path.glob("s/*"))


@pytest.mark.parametrize("case", FILES)
def test_a_bad_configuration_says_where(case: str, refuse: Callable[..., str], tmp_path: Path) -> None:
    content, fragments = FILES[case]
    expect(refuse("run", write(tmp_path / "given.toml", content), "--store", tmp_path / "s"), fragments)
    assert not (tmp_path / "s").exists()


def test_what_is_missing_on_the_command_line_is_named(refuse: Callable[..., str], tmp_path: Path) -> None:
    store = ("--store", tmp_path / "s")
    expect(refuse("run", *store), ["no log to read", "--log PATH"])
    expect(refuse("run", tmp_path / "none.toml", *store), [f"no configuration at {tmp_path / 'none.toml'}", "init"])
    expect(refuse("nonsense"), ["nonsense", "similar"])
    expect(refuse("similar", *store), ["either an item_id or --image FILE"])
    expect(refuse("export", "neighbors", *store), ["--out"])
    expect(refuse("export", "everything", *store, "--out", "x.parquet"), ["everything", "recommendations"])
    expect(refuse("similar", "i1", *store, "-k", "ten"), ["-k", "ten"])
    expect(refuse("recommend", *store), ["exactly one of --user, --history, --history-file"])
    expect(refuse("recommend", *store, "--user", "a", "--history", "b"), ["exactly one of --user"])
    expect(refuse("benchmark"), ["--train FILE --test FILE, or --sequences FILE"])
    expect(refuse("benchmark", "--train", "x"), ["--train FILE --test FILE, or --sequences FILE"])
    expect(refuse("sample", tmp_path / "w", "--users", "0"), ["users", "0"])
    assert list(tmp_path.iterdir()) == []


def test_benchmark_names_the_file_that_is_missing_or_of_other_ids(refuse: Callable[..., str], tmp_path: Path) -> None:
    train, empty = write(tmp_path / "train.txt", "u1 a b c\nu2 a b\n"), write(tmp_path / "empty.txt", "")
    expect(refuse("benchmark", "--train", train, "--test", tmp_path / "none.txt"), ["none.txt"])
    expect(refuse("benchmark", "--train", empty, "--test", train), ["empty.txt is empty"])
    expect(refuse("benchmark", "--sequences", tmp_path / "none.txt"), ["none.txt"])


def test_init_and_sample_leave_a_folder_with_other_things_alone(refuse: Callable[..., str], tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.txt", "precious")
    for command in ("init", "sample"):
        expect(refuse(command, tmp_path), [str(tmp_path), "empty folder"])
    assert list(tmp_path.iterdir()) == [mine]


# --- stores and lookups ---


def test_a_store_that_is_none_is_not_made_into_one(refuse: Callable[..., str], tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", write(tmp_path / "file", "x")
    folder.mkdir()
    write(folder / "mine.txt", "x")
    lookups = (("similar", "i"), ("recommend", "--user", "u"), ("releases",), ("export", "neighbors", "--out", "x.pq"))
    for lookup in lookups:
        expect(refuse(*lookup, "--store", tmp_path / "none"), ["no store at", "none", "recsys-cl run"])
        expect(refuse(*lookup, "--store", folder), [f"{folder} is not a store", "releases/"])
        expect(refuse(*lookup, "--store", file), [str(file)])
    for stage in ("train", "evaluate", "publish"):
        expect(refuse(stage, "--store", tmp_path / "none"), ["none holds no runs", "--store"])
    log = write(tmp_path / "log.csv", GOOD)
    expect(refuse("run", "--log", log, "--store", file), [f"{file} is a file", "--store"])
    expect(refuse("run", "--log", log, "--store", file / "s"), [str(file / "s"), "--store"])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "log.csv", "mine.txt"]


def test_a_store_without_a_release_says_how_to_get_one(
    refuse: Callable[..., str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = write(tmp_path / "log.csv", GOOD)
    assert run_app(app, ["ingest", "--log", str(log), "--store", str(tmp_path / "s")]) == 0
    capfd.readouterr()
    expect(refuse("similar", "i1", "--store", tmp_path / "s"), ["no release yet", "recsys-cl run --log FILE --store"])


def test_a_length_that_no_list_can_have_names_the_bounds(
    refuse: Callable[..., str], tiny_outcome: Outcome, tmp_path: Path
) -> None:
    store = ("--store", tiny_outcome.run.store)
    for k in ("0", "-1"):
        for lookup in (("similar", "x"), ("recommend", "--user", "x"), ("export", "neighbors", "--out", "x.parquet")):
            expect(refuse(*lookup, *store, "-k", k), [f"k is {k}", "from 1"])


def test_an_id_that_is_not_there_is_named_with_what_is_alike(
    refuse: Callable[..., str], tiny_outcome: Outcome, tmp_path: Path
) -> None:
    store, release = ("--store", tiny_outcome.run.store), tiny_outcome.release
    expect(refuse("similar", "no such item", *store), ["no item 'no such item'", release])
    expect(refuse("recommend", "--user", "nobody", *store), ["no user 'nobody'", release])
    expect(refuse("recommend", "--history", "x,y", *store), ["no item 'x'", "'y'"])
    expect(refuse("recommend", "--history", ",", *store), ["the history is empty"])
    expect(refuse("recommend", "--history-file", write(tmp_path / "h", ""), *store), ["the history is empty"])
    expect(
        refuse("recommend", "--history-file", tmp_path / "none", *store), ["history in", "none", "one item_id a line"]
    )
    expect(refuse("recommend", "--history-file", write(tmp_path / "h", NOISE), *store), ["not UTF-8", "one item_id"])
    folder = tiny_outcome.run.store / "releases" / release
    known = pl.read_ipc(folder / "catalog.arrow")["item_id"][0]
    expect(refuse("similar", f" {known}", *store), [f"did you mean {known!r}"])


@pytest.mark.parametrize(
    ("out", "fragments"),
    [
        ("x.xlsx", [".parquet", ".csv", ".jsonl"]),
        ("no/such/x.parquet", ["mkdir -p"]),
        ("folder.parquet", ["is a folder"]),
    ],
)
def test_an_export_that_cannot_be_written_is_refused_first(
    out: str, fragments: list[str], refuse: Callable[..., str], tiny_outcome: Outcome, tmp_path: Path
) -> None:
    (tmp_path / "folder.parquet").mkdir()
    expect(refuse("export", "neighbors", "--store", tiny_outcome.run.store, "--out", tmp_path / out), fragments)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.parquet"]


# --- folders that may not be written, in processes of their own ---

Bound = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def lock_folder() -> Iterator[Callable[[Path], Path]]:
    """Takes the right to write from folders, and gives it back in the end."""
    locked: list[Path] = []

    def lock(folder: Path) -> Path:
        locked.append(folder)
        folder.chmod(0o555)
        return folder

    yield lock
    for folder in locked:
        folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_is_named(
    run_bound: Bound, lock_folder: Callable[[Path], Path], tiny_outcome: Outcome, tmp_path: Path
) -> None:
    log = write(tmp_path / "log.csv", GOOD)
    (tmp_path / "locked").mkdir()
    locked = lock_folder(tmp_path / "locked")
    store = tiny_outcome.run.store
    for command in (
        ("run", "--log", log, "--store", locked / "s"),
        ("run", "--log", log, "--store", locked),
        ("export", "neighbors", "--store", store, "--out", locked / "x.parquet"),
        ("init", locked / "shop"),
        ("sample", locked / "world", "--users", "5", "--items", "5", "--events", "20"),
    ):
        done = run_bound("-m", "recsys_cl.cli", *command)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        expect(check_refusal(done.stderr, tmp_path), [str(locked)])
    assert list(locked.iterdir()) == []


def test_a_store_that_takes_no_release_keeps_what_it_had(
    run_bound: Bound, lock_folder: Callable[[Path], Path], tiny_outcome: Outcome, tmp_path: Path
) -> None:
    store = shutil.copytree(tiny_outcome.run.store, tmp_path / "store")
    releases = lock_folder(store / "releases")
    before = sorted(path.name for path in releases.iterdir())
    done = run_bound("-m", "recsys_cl.cli", "publish", "--store", store, "--run", tiny_outcome.run.run_id)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    expect(check_refusal(done.stderr, tmp_path), ["nothing was published", str(store), "the right to write"])
    assert sorted(path.name for path in releases.iterdir()) == before
    assert (releases / "CURRENT").read_text() == tiny_outcome.release


def test_a_log_that_may_not_be_read_is_named(
    run_bound: Bound, lock_folder: Callable[[Path], Path], tmp_path: Path
) -> None:
    log = write(tmp_path / "log.csv", GOOD)
    log.chmod(0)
    done = run_bound("-m", "recsys_cl.cli", "run", "--log", log, "--store", tmp_path / "s")
    assert done.returncode == 2
    expect(check_refusal(done.stderr, tmp_path), [str(log)])
    assert not list(tmp_path.glob("s/*"))
