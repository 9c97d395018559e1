"""Benchmarks measure what they say: compared with a reference too simple to be wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from recsys_cl.benchmark import read_events, run_benchmark
from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import ConfigError, InputError
from recsys_cl.interactions.split import split_interactions
from recsys_cl.progress import report_nothing
from recsys_cl.recipe import choose_steps, fit

Lists = dict[str, list[str]]
SETTINGS = ["model.dim=8", "training.epochs=3", "training.batch_users=16", "training.n_threads=1"]
SETTINGS += ["training.least_steps=0", "recipe.search=false"]


@pytest.fixture(scope="module")
def config() -> Config:
    return apply_settings(Config(), SETTINGS)


def draw_lists(seed: int, n_users: int = 40, n_items: int = 60, least: int = 4, most: int = 12) -> Lists:
    """Users like items near their own number: something to learn."""
    rng = np.random.default_rng(seed)
    lists: Lists = {}
    for user in range(n_users):
        near = (user * n_items // n_users + rng.permutation(n_items // 3)) % n_items
        lists[f"{user}"] = [f"{item}" for item in near[: rng.integers(least, most + 1)]]
    return lists


def write_lists(path: Path, lists: Lists) -> Path:
    path.write_text("".join(f"{user} {' '.join(items)}\n" for user, items in lists.items()))
    return path


def split_lists(lists: Lists, n_test: int = 3) -> tuple[Lists, Lists]:
    return (
        {user: items[:-n_test] for user, items in lists.items()},
        {user: items[-n_test:] for user, items in lists.items()},
    )


def measure_simply(
    vectors: tuple[np.ndarray, np.ndarray], ids: tuple[list[str], list[str]], seen: Lists, wanted: Lists, k: int
) -> tuple[float, float]:
    """recall@k and ndcg@k, one user and one item after the other."""
    (queries, candidates), (users, items) = vectors, ids
    recalls, ndcgs = [], []
    for user, targets in wanted.items():
        scores = {item: float(queries[users.index(user)] @ candidates[row]) for row, item in enumerate(items)}
        ranked = sorted((item for item in items if item not in seen[user]), key=lambda item: -scores[item])[:k]
        gains = [1 / math.log2(rank + 1) for rank, item in enumerate(ranked, 1) if item in targets]
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(targets)) + 1))
        recalls.append(len(gains) / len(targets))
        ndcgs.append(sum(gains) / ideal)
    return float(np.mean(recalls)), float(np.mean(ndcgs))


def test_figures_of_a_given_split_are_those_of_the_simple_reference(tmp_path: Path, config: Config) -> None:
    train, test = split_lists(draw_lists(0))
    test |= {"7": [], "8": ["59"]}
    paths = [write_lists(tmp_path / f"{name}.txt", lists) for name, lists in (("train", train), ("test", test))]
    figures = run_benchmark(config, train=paths[0], test=paths[1])
    known = read_events(paths[0], config, report_nothing)
    wanted = apply_settings(config, ["split.by=random"])
    fitted = fit(known, wanted, choose_steps(known, wanted))
    ids = known.users.to_series().to_list(), known.items.to_series().to_list()
    targets = {user: [item for item in items if item in ids[1]] for user, items in test.items()}
    targets = {user: items for user, items in targets.items() if items}
    recall, ndcg = measure_simply((fitted.queries, fitted.candidates), ids, train, targets, 20)
    assert figures["recall@20"] == pytest.approx(recall, abs=1e-9)
    assert figures["ndcg@20"] == pytest.approx(ndcg, abs=1e-9)
    assert 0 < recall < 1
    assert figures["n_users_judged"] == len(targets)
    assert figures["n_train"] == sum(map(len, train.values()))
    assert (figures["n_users"], figures["n_items"]) == (len(ids[0]), len(ids[1]))


def test_the_last_item_of_a_sequence_is_sought_and_all_before_it_are_masked(tmp_path: Path, config: Config) -> None:
    lists = draw_lists(1)
    lists |= {"once": ["5"], "again": ["1", "2", "3", "1"]}
    path = write_lists(tmp_path / "s.txt", lists)
    figures = run_benchmark(config, sequences=path)
    known = read_events(path, config, report_nothing)
    wanted = apply_settings(config, ["split.by=leave_last", "split.n_last=1"])
    part = split_interactions(known, wanted.split, wanted.training.seed).train
    fitted = fit(part, wanted, choose_steps(part, wanted))
    ids = known.users.to_series().to_list(), known.items.to_series().to_list()
    seen = {user: items[:-1] for user, items in lists.items()}
    targets = {user: items[-1:] for user, items in lists.items() if len(items) > 1}
    for k in (5, 10):
        recall, ndcg = measure_simply((fitted.queries, fitted.candidates), ids, seen, targets, k)
        assert figures[f"recall@{k}"] == pytest.approx(recall, abs=1e-9)
        assert figures[f"ndcg@{k}"] == pytest.approx(ndcg, abs=1e-9)
    assert figures["n_users_judged"] == len(lists) - 1
    assert figures["n_train"] == sum(max(1, len(items) - 1) for items in lists.values())


def test_unknown_ids_of_the_test_are_counted_and_change_no_figure(tmp_path: Path, config: Config) -> None:
    train, test = split_lists(draw_lists(2))
    path = write_lists(tmp_path / "train.txt", train)
    known = {item for items in train.values() for item in items}
    test = {user: [item for item in items if item in known] for user, items in test.items()}
    plain = run_benchmark(config, train=path, test=write_lists(tmp_path / "a.txt", test))
    others = {user: [*items, "new-item"] if user == "3" else items for user, items in test.items()}
    others |= {"new-user": ["1", "2"], "newer-user": ["new-item"]}
    more = run_benchmark(config, train=path, test=write_lists(tmp_path / "b.txt", others))
    assert (plain["n_test_unknown"], more["n_test_unknown"]) == (0, 4)
    same = ("recall@20", "ndcg@20", "n_users", "n_items", "n_train", "n_users_judged", "embeddings_sha256")
    assert {name: plain[name] for name in same} == {name: more[name] for name in same}


def test_nothing_that_is_learned_depends_on_the_test(tmp_path: Path, config: Config) -> None:
    train, test = split_lists(draw_lists(3))
    path = write_lists(tmp_path / "train.txt", train)
    found = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        shuffled = {user: [str(item) for item in rng.integers(0, 60, 5)] for user in list(test)[: 30 - seed]}
        found.append(run_benchmark(config, train=path, test=write_lists(tmp_path / "t.txt", shuffled)))
    assert found[0]["embeddings_sha256"] == found[1]["embeddings_sha256"]
    assert found[0]["settings"] == found[1]["settings"]
    assert found[0]["recall@20"] != found[1]["recall@20"]
    assert found[0]["n_users_judged"] == 30


def test_other_names_of_users_and_items_change_no_count(tmp_path: Path, config: Config) -> None:
    train, test = split_lists(draw_lists(4))

    def rename(lists: Lists) -> Lists:
        return {
            f"ü{997 * int(user) % 1009}": [f"x{int(item) * 7 % 61}" for item in items] for user, items in lists.items()
        }

    found = [
        run_benchmark(
            config, train=write_lists(tmp_path / "train.txt", r(train)), test=write_lists(tmp_path / "t.txt", r(test))
        )
        for r in (dict, rename)
    ]
    same = ("n_users", "n_items", "n_train", "n_users_judged", "n_test_unknown")
    assert {name: found[0][name] for name in same} == {name: found[1][name] for name in same}
    assert found[0]["recall@20"] == pytest.approx(found[1]["recall@20"], abs=0.2)
    assert found[0]["embeddings_sha256"] != found[1]["embeddings_sha256"]


def test_one_object_holds_all_that_is_promised_and_is_json(tmp_path: Path, config: Config) -> None:
    train, test = split_lists(draw_lists(5))
    paths = [write_lists(tmp_path / f"{name}.txt", lists) for name, lists in (("train", train), ("test", test))]
    figures = run_benchmark(apply_settings(config, ["training.seed=3"]), train=paths[0], test=paths[1])
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert {"recall@20", "ndcg@20", "train_seconds", "evaluate_seconds", "settings"} <= set(figures)
    assert figures["settings"]["training"]["seed"] == 3
    assert figures["settings"]["members"]
    assert figures["settings"]["chosen_because"]
    assert len(figures["embeddings_sha256"]) == 64
    assert figures["train_seconds"] > 0
    assert 50 << 20 < figures["peak_rss_bytes"] < 64 << 30
    again = run_benchmark(apply_settings(config, ["training.seed=3"]), train=paths[0], test=paths[1])
    other = run_benchmark(config, train=paths[0], test=paths[1])
    assert again["embeddings_sha256"] == figures["embeddings_sha256"] != other["embeddings_sha256"]


@pytest.mark.parametrize("given", [set(), {"train"}, {"test"}, {"train", "test", "sequences"}, {"train", "sequences"}])
def test_which_files_to_use_must_be_clear(tmp_path: Path, given: set[str]) -> None:
    path = write_lists(tmp_path / "x.txt", draw_lists(6))
    with pytest.raises(ConfigError, match="--train FILE --test FILE, or --sequences FILE"):
        run_benchmark(Config(), **dict.fromkeys(given, path))  # type: ignore[arg-type]


def test_files_of_two_splits_are_refused(tmp_path: Path, config: Config) -> None:
    train = write_lists(tmp_path / "train.txt", draw_lists(7))
    test = write_lists(tmp_path / "test.txt", {"nobody": ["1"], "0": ["nothing"]})
    with pytest.raises(InputError, match="no event of the test file has a user and an item of the training file"):
        run_benchmark(config, train=train, test=test)
