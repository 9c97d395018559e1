"""The whole recipe on small logs: what is chosen is what validation says, what is given is kept, and what is published
answers as what was judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys_cl.benchmark import read_events, run_benchmark
from recsys_cl.config import Config, apply_settings
from recsys_cl.interactions.table import Interactions
from recsys_cl.pipeline import run_all
from recsys_cl.plan import Plan
from recsys_cl.progress import report_nothing
from recsys_cl.recipe import choose_plan, fit_plan
from recsys_cl.runs import create_run
from recsys_cl.screening import BAG, LINEAR, SEQUENCE
from recsys_cl.serving.lookup import open_release
from recsys_cl.trials import Figures, Judge, Place, build_judge, judge_vectors


@pytest.fixture(scope="module")
def config(tiny_config: Config) -> Config:
    values = tiny_config.model_dump()
    values["recipe"] = {"search": True, "screen_epochs": 1, "bag_epochs": 2, "sequence_epochs": 2}
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def interactions(tiny_config: Config) -> Interactions:
    return read_events(Path(tiny_config.ingest.log), tiny_config, report_nothing)


@pytest.fixture(scope="module")
def plan(interactions: Interactions, config: Config) -> Plan:
    return choose_plan(interactions, config)


def test_every_kind_of_tower_is_tried_and_each_decision_has_its_reason(plan: Plan) -> None:
    said = "\n".join(plan.reasons)
    for part in ("budget: ", "temperature 0.", "bag tower: recall@20", "sequence tower: recall@20", "closed form: "):
        assert said.count(part) == 1, part
    assert said.count("the best by itself") == 1
    assert said.count(" joins with weight ") + said.count(" stays out: ") == 2
    assert len(plan.members) == 1 + said.count(" joins with weight ")
    assert set(plan.histories) == {BAG, SEQUENCE}
    assert Plan.load(plan.dump()) == plan


def test_the_best_tower_by_itself_is_the_first_member_and_no_blend_is_worse(
    interactions: Interactions, config: Config
) -> None:
    """Recalls are read from the reasons: the first member's is the greatest of the means, the plan's not below it."""
    alone = {
        kind: choose_plan(interactions, apply_settings(config, [f'recipe.towers=["{kind}"]'])).validation
        for kind in (BAG, SEQUENCE, LINEAR)
    }
    values = {kind: (found["recall"] + found["ndcg"]) / 2 for kind, found in alone.items()}
    whole = choose_plan(interactions, config)
    assert whole.members[0].kind == max(values, key=lambda kind: values[kind])
    assert (whole.validation["recall"] + whole.validation["ndcg"]) / 2 >= max(values.values()) - 1e-9


def test_choosing_again_gives_the_same_plan_and_the_same_bits(
    interactions: Interactions, config: Config, plan: Plan
) -> None:
    again = choose_plan(interactions, config)
    assert (again.members, again.reasons) == (plan.members, plan.reasons)
    one, two = (fit_plan(interactions, config, each) for each in (plan, again))
    assert one.queries.tobytes() == two.queries.tobytes()
    assert one.candidates.tobytes() == two.candidates.tobytes()


def test_what_is_given_is_kept_and_all_else_is_chosen(interactions: Interactions, config: Config) -> None:
    given = apply_settings(config, ["model.temperature=0.33", "model.tied=false"])
    plan = choose_plan(interactions, given)
    assert not [reason for reason in plan.reasons if reason.startswith("temperature")]
    for member in plan.members:
        own = apply_settings(given, member.settings)
        assert own.model.temperature == 0.33
        assert not own.model.tied
        assert own.model.user_weight == 0 or member.kind == LINEAR


@pytest.mark.parametrize(("setting", "kind"), [("transformer", SEQUENCE), ("gru", SEQUENCE), ("attention", BAG)])
def test_where_a_history_is_given_there_is_one_tower_that_learns(
    interactions: Interactions, config: Config, setting: str, kind: str
) -> None:
    plan = choose_plan(interactions, apply_settings(config, [f"model.history={setting}"]))
    assert set(plan.histories) == {kind}


def test_a_small_budget_cuts_epochs_by_a_nominal_pace(interactions: Interactions, config: Config) -> None:
    longer = apply_settings(
        config,
        ["recipe.bag_epochs=40", "recipe.sequence_epochs=40", "recipe.screen_epochs=4", "training.patience=1000"],
    )
    wide, narrow = (
        choose_plan(interactions, apply_settings(longer, [f"recipe.budget_seconds={seconds}"]))
        for seconds in (1000.0, 1.0)
    )
    assert "% of the epochs" not in wide.reasons[0]
    assert "% of the epochs" in narrow.reasons[0]
    for kind in (BAG, SEQUENCE):
        assert len(narrow.histories[kind]) < len(wide.histories[kind])


def test_a_cut_shortens_the_trainings_that_compare_temperatures_too(interactions: Interactions, config: Config) -> None:
    """`least_steps` is cut as well, and what is cut counts as chosen, not as given."""
    told: dict[str, float] = {}

    def tell(what: str, done: float, total: float, note: str) -> None:
        told[what] = total

    values = config.model_dump()
    values["recipe"] |= {"screen_epochs": 6, "bag_epochs": 30, "budget_seconds": 0.001}
    values["training"]["least_steps"] = 600
    choose_plan(interactions, Config.model_validate(values), Place(tell))
    screens = [total for what, total in told.items() if "temperature" in what]
    assert screens
    assert max(screens) == 600 // 10 // 3, "a tenth of the steps; one epoch of three is screened"


def test_a_blend_is_judged_as_it_will_be_read(
    interactions: Interactions, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tower that reads everything is read, beside one that reads three items, by those three; also on validation."""
    monkeypatch.setattr(Figures, "is_better", lambda *_: True)
    settings = ["model.dim=64", "model.history_length=3", 'recipe.towers=["bag","sequence"]']
    given = apply_settings(config, settings)  # 40 items are of rank 39: 64 floats lose nothing, whoever they suit
    plan = choose_plan(interactions, given)
    assert len(plan.members) == 2
    judge = build_judge(interactions, given)
    assert isinstance(judge, Judge)
    figures = judge_vectors(judge, judge.encode(fit_plan(judge.train, given, plan).model))
    assert {"recall": figures.recall, "ndcg": figures.ndcg} == pytest.approx(plan.validation, abs=1e-3)


def test_order_plays_no_part_where_a_log_has_none(tmp_path: Path, config: Config) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{user} " + " ".join(map(str, rng.permutation(30)[:10])) for user in range(60)]
    (tmp_path / "log.txt").write_text("\n".join(lines))
    log = read_events(tmp_path / "log.txt", Config(), report_nothing)
    plan = choose_plan(log, apply_settings(config, ["split.by=random"]))
    assert not [reason for reason in plan.reasons if reason.startswith("sequence")]


def test_a_catalog_that_is_too_large_gets_no_closed_form(interactions: Interactions, config: Config) -> None:
    plan = choose_plan(interactions, apply_settings(config, ["recipe.most_linear_items=10"]))
    assert "closed form: left out, 40 items are more than 10" in plan.reasons
    assert LINEAR not in {member.kind for member in plan.members}


def test_without_a_validation_part_the_settings_hold(interactions: Interactions, config: Config) -> None:
    plan = choose_plan(interactions, apply_settings(config, ["split.validation_share=0"]))
    assert [member.kind for member in plan.members] == ["given"]
    assert "split.validation_share is 0" in plan.reasons[0]
    assert fit_plan(interactions, config, plan).candidates.shape[1] == config.model.dim


def test_each_training_has_files_and_progress_of_its_own(
    interactions: Interactions, config: Config, tmp_path: Path
) -> None:
    told: set[str] = set()
    place = Place(lambda what, *_: told.add(what), tmp_path / "c.safetensors", tmp_path / "steps" / "c.jsonl")
    choose_plan(interactions, config, place)
    assert {path.name for path in (tmp_path / "steps").iterdir()} == {"c-bag.jsonl", "c-sequence.jsonl"}
    assert {"training, bag", "training, sequence"} < told


@pytest.mark.parametrize("towers", [["bag", "linear"], ["sequence", "linear", "bag"], ["linear"]])
def test_a_release_of_any_members_answers_as_they_were_judged(
    towers: list[str], config: Config, tmp_path: Path
) -> None:
    given = apply_settings(config, [f"recipe.towers={str(towers).replace(chr(39), chr(34))}"])
    outcome = run_all(create_run(tmp_path, given))
    release = open_release(tmp_path)
    members = outcome.read("train")["members"]
    assert {member["kind"] for member in members} <= set(towers)
    bags = Interactions.read(outcome.run.folder / "interactions").to_bags()  # with the weights of events
    encoded = release.encode_bags(bags)
    np.testing.assert_allclose(encoded, release.parts.user_vectors, atol=1e-4)
    item_id = release.parts.catalog.items.get_ids(np.array([0]))[0]
    assert len(release.answer_similar(item_id, 3)) == 3


def test_the_test_part_decides_nothing_and_the_figures_hold_what_is_promised(tmp_path: Path, config: Config) -> None:
    rng = np.random.default_rng(1)
    lists = {user: rng.permutation(50)[:14].tolist() for user in range(80)}
    for name, low, high in (("train", 0, 11), ("test", 11, 14), ("other", 11, 13)):
        rows = (f"{user} {' '.join(map(str, items[low:high]))}" for user, items in lists.items())
        (tmp_path / f"{name}.txt").write_text("\n".join(rows))
    ours, theirs = (
        run_benchmark(config, train=tmp_path / "train.txt", test=tmp_path / f"{name}.txt", explain=name == "test")
        for name in ("test", "other")
    )
    assert ours["settings"] == theirs["settings"]
    assert ours["embeddings_sha256"] == theirs["embeddings_sha256"]
    assert ours["recall@20_new_users"] == ours["recall@20"], "no free embedding: nobody is new"
    assert {"tail_items", "light_users"} < set(ours["slices"])
    assert 0 <= ours["slices"]["tail_items"]["item_knn_recall@20"] <= 1
    kinds = {member["kind"] for member in ours["settings"]["members"]}
    assert len(ours["samplers"]) == (3 if BAG in kinds else 0)
    assert "samplers" not in theirs
