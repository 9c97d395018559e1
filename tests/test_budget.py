"""A budget is of nominal seconds: more of anything takes more, and less of it cuts epochs, down to a least."""

from __future__ import annotations

import pytest

from recsys_cl.budget import count_hidden, cut_to_budget, estimate_budget
from recsys_cl.config import Config, apply_settings
from recsys_cl.screening import BAG, LINEAR, QUERY_HIDDEN, SEQUENCE

SIZE = (60, 40, 1500)


@pytest.fixture
def searching(tiny_config: Config) -> Config:
    return apply_settings(tiny_config, ["recipe.search=true"])


def test_more_epochs_and_a_search_take_more(tiny_config: Config, searching: Config) -> None:
    longer = estimate_budget(apply_settings(tiny_config, ["training.epochs=9"]), SIZE, True)
    usual = estimate_budget(tiny_config, SIZE, True)
    assert longer.most_steps == 3 * usual.most_steps
    searched = estimate_budget(searching, SIZE, True)
    assert searched.most_seconds > usual.most_seconds
    cut = apply_settings(searching, ["recipe.budget_seconds=0.001"])
    assert estimate_budget(cut, SIZE, True).most_steps < searched.most_steps


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_larger_log_takes_longer(searching: Config, place: int) -> None:
    larger = [size * (100 if number == place else 1) for number, size in enumerate(SIZE)]
    most = estimate_budget(searching, (larger[0], larger[1], larger[2]), True).most_seconds
    assert most > estimate_budget(searching, SIZE, True).most_seconds


def test_a_layer_behind_the_history_takes_longer(tiny_config: Config, searching: Config) -> None:
    for config in (tiny_config, searching):
        none, wide = (apply_settings(config, [f"model.query_hidden={hidden}"]) for hidden in (0, 1024))
        assert estimate_budget(wide, SIZE, False).most_seconds > estimate_budget(none, SIZE, False).most_seconds
        assert (count_hidden(none), count_hidden(wide)) == (0, 1024)
    assert (count_hidden(tiny_config), count_hidden(searching)) == (0, QUERY_HIDDEN)


def test_what_fits_is_not_cut(searching: Config) -> None:
    config, (said,) = cut_to_budget(searching, SIZE, [BAG, LINEAR])
    assert config == searching
    assert said.startswith("budget: ")
    assert said.endswith("nominal seconds")


def test_a_budget_cuts_all_epochs_by_one_share_and_none_below_a_tenth(searching: Config) -> None:
    names = ("bag", "sequence", "screen")
    long = apply_settings(searching, [f"recipe.{name}_epochs=100" for name in names])
    (said,) = cut_to_budget(long, SIZE, [BAG, SEQUENCE])[1]
    needed = float(said.split()[1].replace(",", ""))
    for budget, share in ((0.5 * needed, 50), (1e-6, 10)):
        bound = apply_settings(long, [f"recipe.budget_seconds={budget}"])
        cut, (said,) = cut_to_budget(bound, SIZE, [BAG, SEQUENCE])
        epochs = [getattr(cut.recipe, f"{name}_epochs") for name in names]
        assert epochs == pytest.approx([share] * 3, abs=4)  # what is said is rounded to a second
        assert said.endswith("% of the epochs")


def test_steps_that_were_given_are_kept(searching: Config) -> None:
    given = apply_settings(searching, ["training.least_steps=1000", "recipe.budget_seconds=0.001"])
    cut, _ = cut_to_budget(given, SIZE, [BAG])
    assert cut.training.least_steps == 1000
    assert cut.recipe.bag_epochs < given.recipe.bag_epochs
