"""The command line from outside: every command as a process of its own, its answers, exit codes and what it imports."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cyclopts import App

from recsys_cl.cli import app
from recsys_cl.config import read_config
from recsys_cl.door import run_app
from recsys_cl.files import TEMPORARY, read_json
from recsys_cl.pipeline import Outcome

Command = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = (
    *"run ingest train evaluate images publish similar agreement recommend export releases compare".split(),  # noqa: SIM905
    *"rollback verify prune compact forget rebuild diff schedule profile".split(),  # noqa: SIM905
    "benchmark",
    "init",
    "sample",
    "doctor",
    "serve",
)
HEAVY = {"torch", "polars", "faiss", "pandas", "numpy", "pydantic", "pyarrow", "scipy", "sklearn", "onnxruntime"}
LIGHT = {"torch", "onnxscript", "prefect", "pandas", "sklearn", "sqlalchemy"}  # more than a lookup may need


@pytest.fixture(scope="session")
def store(tiny_outcome: Outcome) -> Path:
    """A store with one release; only to be read."""
    return tiny_outcome.run.store


def ask(recsys: Command, *arguments: str | Path, cwd: Path | None = None) -> Any:
    done = recsys(*arguments, "--json") if cwd is None else recsys(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fail(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that a refused command prints."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("recsys-cl: ")
    return line


def list_releases(store: Path) -> list[str]:
    folder = store / "releases"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


# --- what starts at once ---


def run_inside(code: str, modules: set[str], *arguments: str | Path) -> set[str]:
    """Which of `modules` a Python process has imported after `code`."""
    code += "\nprint(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return modules & set(done.stderr.split())


def test_help_of_every_command_names_an_example_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from recsys_cl.cli import app; from recsys_cl.door import run_app\n"
        "for name in ['', *sys.argv[1:]]:\n"
        "    assert run_app(app, [name, '--help'] if name else ['--help']) == 0, name\n"
        "    print('=====')"
    )
    assert run_inside(code, HEAVY, *COMMANDS) == set()
    texts = subprocess.run([sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True).stdout.split(
        "====="
    )
    assert len(texts) == len(COMMANDS) + 2
    assert all(f" {name} " in texts[0] for name in COMMANDS)
    for name, text in zip(COMMANDS, texts[1:-1], strict=True):
        example = text[text.index("Example:") :].splitlines()[0]
        assert f"recsys-cl {name}" in example, text


def test_every_command_there_is_stands_in_the_tests() -> None:
    assert {name for name in app if not name.startswith("-")} == set(COMMANDS)


def test_lookup_and_export_import_no_torch(store: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from recsys_cl.cli import app; from recsys_cl.door import run_app\n"
        "store, out = sys.argv[1:]\n"
        "from recsys_cl import open_release\n"
        "item, user = (ids.get_id(0) for ids in (lambda p: (p.catalog.items, p.users))(open_release(store).parts))\n"
        "for tokens in (['similar', item], ['recommend', '--user', user], ['recommend', '--history', item],\n"
        "               ['export', 'neighbors', '--out', out, '-k', '3'], ['releases']):\n"
        "    assert run_app(app, [*tokens, '--store', store]) == 0, tokens"
    )
    assert run_inside(code, LIGHT, store, tmp_path / "n.parquet") == set()


# --- the stages ---


def test_run_prints_what_a_person_asks_and_as_json_what_a_program_asks(recsys: Command, tiny_outcome: Outcome) -> None:
    store, run_id = tiny_outcome.run.store, tiny_outcome.run.run_id
    text = recsys("run", "--store", store, "--run", run_id).stdout  # a finished run is told again, and not run again
    assert "rows read 1,500, kept" in text
    assert "columns: item = item_id" in text
    assert "leaks: after the cut 0" in text
    assert "lists of 20" in text
    assert "recall@20 of" in text
    assert all(
        name in text for name in ("model ", "popularity ", "item-kNN ", "model − popularity", "model − item-kNN")
    )
    assert f"release {tiny_outcome.release} is live: {store / 'releases' / tiny_outcome.release}" in text
    assert text.count("neighbors of ") == 3
    assert "recommendations for user " in text
    assert sum(line.startswith("  recsys-cl ") for line in text.split("next, try:")[1].splitlines()) == 3
    value = ask(recsys, "run", "--store", store, "--run", run_id)
    assert (value["run_id"], value["release"], value["store"]) == (run_id, tiny_outcome.release, str(store))
    assert value["ingest"]["n_read"] == 1_500
    assert "ndcg@20" in value["evaluation"]["metrics"]["model"]


@pytest.fixture(scope="module")
def staged(recsys: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with a run that has come as far as evaluate, stage by stage, and its id; only to be copied. In its log
    only popularity can be learned, and the model is not allowed to."""
    folder = tmp_path_factory.mktemp("staged")
    rng = random.Random(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(150):
        touched = {int(60 * rng.random() ** 3) for _ in range(12)}
        lines += [f"u{user},i{item},{1_700_000_000 + rng.randrange(10**6)}" for item in touched]
    (folder / "events.csv").write_text("\n".join(lines))
    (folder / "weak.toml").write_text(
        "ingest.log = 'events.csv'\nsplit.by = 'random'\nmodel = {dim = 8, popularity_weight = 0.0}\n"
        "training = {epochs = 1, learning_rate = 1e-9}\nevaluation.n_resamples = 200\nrecipe.search = false\n"
    )
    # The file is given to every stage, and the store beside it, as a scheduler would.
    given = (folder / "weak.toml", "--store", folder / "s")
    older, newer = (ask(recsys, "ingest", *given)["run_id"] for _ in range(2))
    assert older != newer
    early = fail(recsys("evaluate", *given), 2)
    assert f"run {newer} has not finished train" in early
    assert "recsys-cl train --store" in early
    assert ask(recsys, "train", *given)["run_id"] == newer
    found = ask(recsys, "evaluate", *given)
    assert (found["run_id"], found["stage"]) == (newer, "evaluate")
    assert "ndcg@20" in found["result"]["metrics"]["popularity"]
    return folder / "s", newer


def test_stages_alone_take_the_newest_unfinished_run_and_publish_a_named_one_again(
    recsys: Command, staged: tuple[Path, str], tmp_path: Path
) -> None:
    store, newer = shutil.copytree(staged[0], tmp_path / "s"), staged[1]
    # Another gate needs no new training, and no new metrics.
    first = ask(recsys, "publish", "--store", store, "--set", "publishing.require_gain=false")
    assert first["run_id"] == newer
    second = ask(recsys, "publish", "--store", store, "--run", newer)
    found = [(entry["release"], entry["live"]) for entry in ask(recsys, "releases", "--store", store)]
    assert found == [(first["result"]["release"], False), (second["result"]["release"], True)]
    # Now the older run is the newest that is unfinished.
    line = fail(recsys("evaluate", "--store", store), 2)
    assert newer not in line
    assert "has not finished train" in line


def test_a_model_below_popularity_is_refused_until_somebody_gives_a_reason(
    recsys: Command, staged: tuple[Path, str], tmp_path: Path
) -> None:
    store = shutil.copytree(staged[0], tmp_path / "s")
    for command in (("publish",), ("run", "--run", staged[1])):
        line = fail(recsys(*command, "--store", store), 1)
        assert "ndcg@20 of the model is" in line
        assert "--force" in line
        assert list_releases(store) == []
        assert not (store / "releases" / "CURRENT").exists()
    found = ask(recsys, "publish", "--store", store, "--force", "a trial, shown to nobody")
    (release,) = list_releases(store)
    assert found["result"]["release"] == release
    gate = read_json(store / "releases" / release / "manifest.json")["gate"]
    assert gate["forced"] == "a trial, shown to nobody"
    assert "ndcg@20" in gate["reasons"][0]


def test_a_stage_says_what_comes_next_and_ingest_without_a_log_goes_on_and_clears_what_was_left(
    recsys: Command, tiny_toml: Path, tmp_path: Path
) -> None:
    store = tmp_path / "a shop"
    text = recsys("ingest", tiny_toml, "--store", store).stdout
    follows = text.splitlines()[-1].removeprefix("next: ")
    assert follows.startswith(f"recsys-cl train --store '{store}' --run ")
    (run,) = (store / "runs").iterdir()
    (run / f"{TEMPORARY}killed").mkdir()
    (run / f"{TEMPORARY}killed" / "half.parquet").touch()
    assert follows.endswith(ask(recsys, "ingest", "--store", store)["run_id"])
    assert not list(run.glob(f"{TEMPORARY}*"))


def test_stages_without_a_run_say_so(recsys: Command, store: Path, tmp_path: Path) -> None:
    assert "holds no runs" in fail(recsys("train", "--store", tmp_path / "none"), 2)
    assert "has been published" in fail(recsys("train", "--store", store), 2)
    assert "no run 'x'" in fail(recsys("evaluate", "--store", store, "--run", "x"), 2)
    assert not (tmp_path / "none").exists()


def test_set_takes_several_settings_at_once_or_one_by_one(recsys: Command, tiny_sample: Path, tmp_path: Path) -> None:
    log = ("--log", tiny_sample / "events.csv", "--store", tmp_path / "s")
    several = ("--set", "training.epochs=2", "model.dim=8", "--set", "ingest.user_column=user_id", "split.by=random")
    found = ask(recsys, "ingest", *several, *log)
    config = read_json(tmp_path / "s" / "runs" / found["run_id"] / "run.json")["config"]
    assert (config["training"]["epochs"], config["model"]["dim"]) == (2, 8)
    assert (config["ingest"]["user_column"], config["split"]["by"]) == ("user_id", "random")
    assert config["ingest"]["log"] == str(tiny_sample / "events.csv")


def test_a_test_file_that_repeats_training_events_is_refused(
    recsys: Command, tiny_sample: Path, tmp_path: Path
) -> None:
    log = tiny_sample / "events.csv"
    (tmp_path / "test.csv").write_text("".join(log.read_text().splitlines(keepends=True)[:100]))
    by_file = ("--set", "split.by=file", f"split.test={tmp_path / 'test.csv'}")
    line = fail(recsys("run", "--log", log, "--store", tmp_path / "s", *by_file), 1)
    assert "audit" in line
    assert "100.00% of 99 test events leak" in line
    assert list_releases(tmp_path / "s") == []


# --- lookup ---


def get_ids(store: Path, name: str, column: str) -> list[str]:
    (release,) = list_releases(store)
    return pl.read_ipc(store / "releases" / release / name)[column].to_list()


def test_similar_gives_other_items_best_first_with_titles(recsys: Command, store: Path) -> None:
    item = get_ids(store, "catalog.arrow", "item_id")[0]
    answers = ask(recsys, "similar", item, "--store", store, "-k", "5")
    assert [answer["rank"] for answer in answers] == [1, 2, 3, 4, 5]
    assert all(a["score"] >= b["score"] for a, b in pairwise(answers))
    assert item not in {answer["item_id"] for answer in answers}
    assert len({answer["item_id"] for answer in answers}) == 5
    assert all(answer["title"] for answer in answers)
    table = recsys("similar", item, "--store", store, "-k", "5").stdout.splitlines()
    assert table[0].split() == ["rank", "score", "item_id", "title"]
    assert [line.split()[2] for line in table[1:]] == [answer["item_id"] for answer in answers]


def test_recommend_leaves_out_what_was_seen_unless_told(recsys: Command, store: Path, tmp_path: Path) -> None:
    user = get_ids(store, "users.arrow", "user_id")[0]
    n_items = len(get_ids(store, "catalog.arrow", "item_id"))
    unseen = ask(recsys, "recommend", "--user", user, "--store", store, "-k", n_items)
    everything = ask(recsys, "recommend", "--user", user, "--include-seen", "--store", store, "-k", n_items)
    assert len(everything) == n_items > len(unseen) > 0
    order = [answer["item_id"] for answer in everything]
    assert [a["item_id"] for a in unseen] == [i for i in order if i in {a["item_id"] for a in unseen}]
    history = ",".join(i for i in order if i not in {a["item_id"] for a in unseen})
    by_history = ask(recsys, "recommend", "--history", history, "--store", store, "-k", n_items)
    assert {a["item_id"] for a in by_history} == {a["item_id"] for a in unseen}
    (tmp_path / "history.txt").write_bytes(history.replace(",", "\r\n").encode() + b"\n")
    by_file = ("recommend", "--history-file", tmp_path / "history.txt", "--store", store, "-k", n_items)
    assert ask(recsys, *by_file) == by_history


def test_an_export_goes_for_those_in_a_file_to_any_place(recsys: Command, store: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    users = get_ids(store, "users.arrow", "user_id")
    ids.write_text(f"{users[3]}\r\n{users[1]}\nnobody\n")
    common = ("export", "recommendations", "--store", store, "--ids", ids, "-k", "2")
    assert "nobody" in fail(recsys(*common, "--out", tmp_path / "r.csv"), 2)
    places = (("--out", tmp_path / "r.csv"), ("--out", tmp_path / "shards"), ("--to", f"sqlite:///{tmp_path / 'x.db'}"))
    for place in places:
        table = ("--table", "recs") if place[0] == "--to" else ()
        done = ask(recsys, *common, "--skip-unknown", *place, *table)
        assert (done["what"], done["n_asked"], done["n_unknown"], done["n_lines"]) == ("recommendations", 2, 1, 4)
        assert done["release"] in list_releases(store)
    assert pl.read_csv(tmp_path / "r.csv")["user_id"].cast(pl.String).to_list() == [users[3]] * 2 + [users[1]] * 2
    for wrong in (places[0] + places[2], places[2], ("--table", "recs"), (*places[0], "--schema", "s")):
        assert "--to URL --table NAME" in fail(recsys(*common, *wrong), 2)
    ids.write_text("\n")
    assert "is empty" in fail(recsys(*common, *places[0]), 2)
    assert "no -k" in fail(recsys("export", "embeddings", "--store", store, "-k", "3", *places[0]), 2)


def test_a_begun_export_of_a_release_that_is_no_longer_live_is_gone_on_with_by_its_name(
    recsys: Command, tiny_outcome: Outcome, tmp_path: Path
) -> None:
    store, shards = tmp_path / "store", tmp_path / "shards"
    shutil.copytree(tiny_outcome.run.store, store)
    command = ("export", "recommendations", "--store", store, "--out", shards, "-k", "2")
    begun = ask(recsys, *command)
    ask(recsys, "publish", "--store", store, "--run", tiny_outcome.run.run_id, "--force", "once more")
    assert f"--release {begun['release']}" in fail(recsys(*command), 2)
    done = ask(recsys, *command, "--release", begun["release"])
    assert (done["release"], done["n_shards_kept"]) == (begun["release"], begun["n_shards"])
    assert "there is no release" in fail(recsys(*command, "--release", "another"), 2)


def test_export_writes_the_columns_that_are_promised(recsys: Command, store: Path, tmp_path: Path) -> None:
    users, items = get_ids(store, "users.arrow", "user_id"), get_ids(store, "catalog.arrow", "item_id")
    (release,) = list_releases(store)
    for what, asking, answered in (("recommendations", "user_id", "item_id"), ("neighbors", "item_id", "neighbor_id")):
        out = tmp_path / f"{what}.parquet"
        done = recsys("export", what, "--store", store, "--out", out, "-k", "3")
        assert done.returncode == 0, done.stderr
        frame = pl.read_parquet(out)
        space = ["space"] if what == "neighbors" else []
        assert frame.columns == [asking, answered, "score", "rank", *space, "release", "model"]
        assert frame["release"].unique().to_list() == [release]
        assert set(frame[asking]) == set(users if what == "recommendations" else items)
        assert frame.group_by(asking, maintain_order=True).agg("rank")["rank"].to_list() == [[1, 2, 3]] * (
            len(users) if what == "recommendations" else len(items)
        )
        assert f"{frame.height:,} rows" in done.stdout
        one = frame.filter(pl.col(asking) == frame[asking][0])
        how = ("recommend", "--user") if what == "recommendations" else ("similar",)
        answers = ask(recsys, *how, frame[asking][0], "--store", store, "-k", "3")
        assert [answer["item_id"] for answer in answers] == one[answered].to_list()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["neighbors.parquet", "recommendations.parquet"]


def test_releases_of_a_store_are_told_with_their_metrics(recsys: Command, store: Path, tiny_outcome: Outcome) -> None:
    (entry,) = ask(recsys, "releases", "--store", store)
    assert set(entry) == {"release", "live", "created", "metrics", "gate"}
    assert entry["live"] is True
    assert entry["metrics"]["ndcg@20"] == tiny_outcome.read("evaluation")["metrics"]["model"]["ndcg@20"]["value"]
    assert tiny_outcome.release in recsys("releases", "--store", store).stdout


# --- compare ---


def test_two_runs_are_compared_for_people_and_for_programs(
    recsys: Command, staged: tuple[Path, str], tmp_path: Path
) -> None:
    store, first = shutil.copytree(staged[0], tmp_path / "s"), staged[1]
    older = next(path.name for path in (store / "runs").iterdir() if path.name != first)
    line = fail(recsys("compare", first, older, "--store", store), 2)
    assert f"run {older} has not been evaluated" in line
    assert f"recsys-cl evaluate --store {store} --run {older}" in line
    # The older run with a model that knows what everybody likes: from random vectors to popularity.
    settings = ("--store", store, "--run", older, "--set", "model.popularity_weight=1.0")
    for stage in ("train", "evaluate"):
        ask(recsys, stage, *settings)
    value = ask(recsys, "compare", older, first, "--store", store)
    assert (value["first"], value["second"], value["n_first"], value["n_second"]) == (older, first, 0, 0)
    assert set(value["metrics"]) == {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (5, 10, 20)}
    recall = value["metrics"]["recall@20"]
    assert recall["difference"]["low"] > 0
    for runs, verdict in (((older, first), "is better than"), ((first, older), "is worse than")):
        lines = recsys("compare", *runs, "--store", store).stdout.splitlines()
        assert lines[0] == f"first: run {runs[0]}, second: run {runs[1]}"
        assert lines[1].startswith(f"{value['n_users']:,} users, whom both judged on the same held-out items")
        assert lines[2].split() == ["first", "second", "first", "−", "second"]
        assert [line.split()[0] for line in lines[3:12]] == list(value["metrics"])
        sentences = [line for line in lines[12:] if "Recall at 20" in line]
        assert len(sentences) == 1
        assert sentences[0].startswith(f"The first {verdict} the second: Recall at 20 is ")
    text = recsys("compare", first, first, "--store", store).stdout
    assert text.count("These users cannot tell the first from the second") == 9
    assert text.count("+0.0000 [+0.0000, +0.0000]") == 9


def test_runs_that_cannot_be_compared_say_why_in_one_line(
    recsys: Command, staged: tuple[Path, str], tiny_outcome: Outcome, tmp_path: Path
) -> None:
    store, run_id = shutil.copytree(staged[0], tmp_path / "s"), staged[1]
    line = fail(recsys("compare", run_id, "20260101T000000Z-000000000000", "--store", store), 2)
    assert "no run '20260101T000000Z-000000000000'" in line
    assert "holds no runs" in fail(recsys("compare", run_id, run_id, "--store", tmp_path / "none"), 2)
    assert "RUN_B" in fail(recsys("compare", run_id, "--store", store), 2)
    other = tiny_outcome.run  # of another log
    shutil.copytree(other.folder, store / "runs" / other.run_id)
    line = fail(recsys("compare", run_id, other.run_id, "--store", store), 2)
    assert "no user was judged on the same held-out items" in line
    assert "none was judged by both" in line


# --- benchmark ---

QUICK = ("--set", "training.epochs=2", "model.dim=8", "training.n_threads=1")


def write_lines(path: Path, bags: dict[str, list[str]]) -> Path:
    path.write_text("".join(f"{user} {' '.join(items)}\n" for user, items in bags.items()))
    return path


def draw_bags(n_users: int, n_items: int, size: int, seed: int) -> dict[str, list[str]]:
    rng = random.Random(seed)
    return {f"u{user}": [f"i{i}" for i in rng.sample(range(n_items), size)] for user in range(n_users)}


def ask_here(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """As `ask`, in this process: torch is imported already."""
    assert run_app(app, [*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_benchmark_tells_all_figures_and_the_test_file_decides_nothing(
    recsys: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = draw_bags(60, 40, 12, seed=1)
    files = [write_lines(tmp_path / "train.txt", {user: items[:9] for user, items in train.items()})]
    files.append(write_lines(tmp_path / "test.txt", {user: items[9:] for user, items in train.items()}))
    files.append(write_lines(tmp_path / "other.txt", draw_bags(30, 40, 2, seed=2)))
    first = ask(recsys, "benchmark", "--train", files[0], "--test", files[1], *QUICK)
    other = ask_here(capsys, "benchmark", "--train", files[0], "--test", files[2], *QUICK)
    wanted = "recall@20 ndcg@20 train_seconds evaluate_seconds peak_rss_bytes n_users n_items n_train settings"
    assert set(wanted.split()) | {"embeddings_sha256"} <= set(first)
    assert (first["n_users"], first["n_items"], first["n_train"]) == (60, 40, 540)
    assert first["settings"] == other["settings"]
    assert first["embeddings_sha256"] == other["embeddings_sha256"]
    assert first["recall@20"] != other["recall@20"]
    assert first["settings"]["training"]["epochs"] == 2


def test_benchmark_of_sequences_holds_out_the_last_item(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "sequences.txt", draw_bags(60, 40, 8, seed=1))
    found = ask_here(capsys, "benchmark", "--sequences", path, *QUICK)
    assert {"recall@5", "recall@10", "ndcg@5", "ndcg@10", "embeddings_sha256", "settings"} <= set(found)
    assert (found["n_users"], found["n_train"], found["n_users_judged"]) == (60, 420, 60)


# --- the others ---


def test_init_writes_a_configuration_that_runs_from_anywhere(recsys: Command, tmp_path: Path) -> None:
    done = recsys("init", "shop", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("next: recsys-cl run shop/config.toml")
    assert read_config(tmp_path / "shop" / "config.toml").ingest.log == str(tmp_path / "shop" / "events.csv")
    ingested = ask(recsys, "ingest", "shop/config.toml", cwd=tmp_path)
    assert ingested["result"]["n_read"] == len((tmp_path / "shop" / "events.csv").read_text().splitlines()) - 1
    assert ingested["result"]["items"]["n_lines"] > 0
    assert Path(ingested["store"]) == Path("shop/store")
    assert "not empty" in fail(recsys("init", "shop", cwd=tmp_path), 2)


def test_sample_draws_a_world_of_the_size_that_was_asked(recsys: Command, tmp_path: Path) -> None:
    sizes = ("--users", "30", "--items", "20", "--events", "200")
    for seed in ("0", "1"):
        assert recsys("sample", tmp_path / seed, *sizes, "--seed", seed).returncode == 0
    logs = [(tmp_path / seed / "events.csv").read_text() for seed in ("0", "1")]
    assert [len(log.splitlines()) for log in logs] == [201, 201]
    assert logs[0] != logs[1]


def test_doctor_tells_of_versions_memory_disk_threads_and_the_store(
    recsys: Command, store: Path, tmp_path: Path
) -> None:
    checks = ask(recsys, "doctor", "--store", store)
    assert {"python", "numpy", "torch", "memory", "disk", "threads", "store"} <= {check["what"] for check in checks}
    assert all(set(check) == {"what", "status", "found", "remedy"} for check in checks)
    assert not [check for check in checks if check["status"] == "bad"]
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "CURRENT").write_text("../elsewhere")
    sick = recsys("doctor", "--store", tmp_path)
    assert sick.returncode == 1
    assert "'../elsewhere'" in sick.stdout


def test_whoever_stops_reading_causes_no_complaint(store: Path) -> None:
    code = "import sys; from recsys_cl.cli import main; sys.argv[0] = 'recsys-cl'; sys.exit(main())"
    read, write = os.pipe()
    os.close(read)
    item = get_ids(store, "catalog.arrow", "item_id")[0]
    done = subprocess.run(
        [sys.executable, "-c", code, "similar", item, "--store", store, "--json"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_is_not_utf8_still_gets_its_answer(tiny_outcome: Outcome) -> None:
    run = tiny_outcome.run
    command = [sys.executable, "-m", "recsys_cl.cli", "run", "--store", run.store, "--run", run.run_id]
    done = subprocess.run(
        command, capture_output=True, timeout=120, env=os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    )
    assert done.returncode == 0, done.stderr
    assert b"model \\u2212 popularity" in done.stdout


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "a file of the store, .* cannot be written .*; free some space",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "/x/y cannot be written .*; free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied"),
        (MemoryError(), "out of memory; lower .*batch_users"),
    ],
)
def test_what_the_system_refuses_is_one_line_and_exit_code_2(
    error: BaseException, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = App()

    @failing.default
    def fail() -> None:
        raise error

    assert run_app(failing, []) == 2
    assert re.fullmatch(f"recsys-cl: {told}.*\n", capsys.readouterr().err)
