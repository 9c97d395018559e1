"""Budget: comes in a configuration and the size of a log, goes out what choosing and fitting take, or fewer epochs
where that is too much. By a nominal pace, not the clock: the same data and settings give the same plan anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recsys_cl.config import Config, apply_settings
from recsys_cl.screening import BAG, LINEAR, QUERY_HIDDEN, SEQUENCE
from recsys_cl.trials import free_settings

SEQUENCE_STEP_COST = 4  # a step in order costs so many without: where a log is small it is passed over less often
_STEP_SECONDS, _PRODUCT_SECONDS, _PLACE_SECONDS = 0.012, 1.2e-10, 6e-8  # nominal: a step, a logit's float, a place's
_NEIGHBORS_COST = 1.6  # a step that reads neighbors costs so many without
_LEAST_CUT = 0.1  # of the epochs, however small the budget

Size = tuple[int, int, int]
"""Users that hold a pair, items, events."""


@dataclass(frozen=True)
class Budget:
    """What all trainings of a run take at least and at most: steps, and nominal seconds; step_seconds: nominal, of a
    step of the tower as it is configured, and with the layer that the recipe gives it."""

    least_steps: int
    most_steps: int
    least_seconds: float
    most_seconds: float
    step_seconds: float


def cut_to_budget(config: Config, size: Size, kinds: Sequence[str]) -> tuple[Config, list[str]]:
    """Fewer epochs where the plan would take more than the budget, and what is said of it."""
    planned = _Costs.estimate(config, size).add_search(config, kinds)
    share = config.recipe.budget_seconds / planned
    said = f"budget: {planned:,.0f} of {config.recipe.budget_seconds:,.0f} nominal seconds"
    if share >= 1:
        return config, [said]
    share = max(share, _LEAST_CUT)
    whole = {
        "training.least_steps": config.training.least_steps,
        "recipe.bag_epochs": config.recipe.bag_epochs,
        "recipe.screen_epochs": config.recipe.screen_epochs,
        "recipe.sequence_epochs": config.recipe.sequence_epochs,
    }
    cut = {name: max(1, int(value * share)) for name, value in whole.items()}
    shorter = apply_settings(config, free_settings(cut, config.recipe.keep))
    recipe = shorter.recipe.model_copy(update={"keep": config.recipe.keep})  # cut, not given: trials may go lower
    return shorter.model_copy(update={"recipe": recipe}), [f"{said}: {share:.0%} of the epochs"]


def estimate_budget(config: Config, size: Size, timed: bool) -> Budget:
    """What a run over a log of this size takes, before it is read."""
    costs, recipe, training = _Costs.estimate(config, size), config.recipe, config.training
    in_order = config.sampling.positives == "next"
    step = (costs.sequence if in_order else costs.bag) / costs.steps
    if not recipe.search:
        epochs = max(training.epochs, -(-training.least_steps // costs.steps))
        n_fits = 2 + bool(config.split.validation_share)
        every = min(training.validate_every * max(1, epochs // training.epochs), epochs)
        at_least, at_most = n_fits * every * costs.steps, n_fits * epochs * costs.steps
        return Budget(at_least, at_most, at_least * step, at_most * step, step)
    kinds = list_tried(config, timed)
    bag_epochs, screen, passes = costs.count_passes(config)
    nominal = costs.add_search(config, kinds)
    cut = min(1.0, max(recipe.budget_seconds / nominal, _LEAST_CUT))
    steps = cut * costs.steps * (screen + 3 * bag_epochs * (BAG in kinds) + 3 * passes * (SEQUENCE in kinds))
    # A second fit comes after the budget; training may stop at an early validation.
    return Budget(int(steps * 0.15), int(steps), 0.15 * cut * nominal, 1.5 * cut * nominal, step)


def list_tried(config: Config, timed: bool) -> list[str]:
    """The towers that the recipe tries: that with order only where the log has one."""
    ordered = timed or config.split.by == "leave_last"
    return [kind for kind in config.recipe.towers if kind != SEQUENCE or ordered]


def count_hidden(config: Config) -> int:
    """Hidden units of the layer behind the history of a tower without order."""
    free = config.recipe.search and "model.query_hidden" not in config.recipe.keep
    return QUERY_HIDDEN if free else config.model.query_hidden


@dataclass(frozen=True)
class _Costs:
    """Nominal seconds of an epoch of a tower without order, and of one with it; steps of either; and the catalog."""

    bag: float
    sequence: float
    steps: int
    n_items: int

    @staticmethod
    def estimate(config: Config, size: Size) -> _Costs:
        """Of a log of this size."""
        training, dim = config.training, config.model.dim
        n_users, n_items, n_events = size
        steps = max(1, -(-n_users // training.batch_users))
        offered = min(config.sampling.n_negatives, n_items)
        queries = min(training.batch_users, n_users)
        bag = steps * (_STEP_SECONDS + queries * (offered + count_hidden(config)) * dim * _PRODUCT_SECONDS)
        place = (offered + config.model.query_hidden) * _PRODUCT_SECONDS + _PLACE_SECONDS  # for each of its floats
        return _Costs(bag, bag + n_events * place * dim, steps, n_items)

    def count_passes(self, config: Config) -> tuple[float, float, float]:
        """Epochs of a tower without order, of all its short trainings, and of a tower in order."""
        recipe, least = config.recipe, config.training.least_steps
        epochs = max(recipe.bag_epochs, least / self.steps)
        # most often three temperatures, and a rung more of each
        screen = epochs * recipe.screen_epochs / recipe.bag_epochs * 6
        return epochs, screen, max(recipe.sequence_epochs, least / SEQUENCE_STEP_COST / self.steps)

    def add_search(self, config: Config, kinds: Sequence[str]) -> float:
        """Nominal seconds of choosing and of one fit."""
        recipe = config.recipe
        epochs, screen, passes = self.count_passes(config)
        bag = self.bag * (_NEIGHBORS_COST if any(recipe.neighbor_weights) else 1.0)
        total = screen * bag + 2 * epochs * bag * (BAG in kinds) + 2 * passes * self.sequence * (SEQUENCE in kinds)
        if LINEAR in kinds and self.n_items <= recipe.most_linear_items:
            total += (len(recipe.ridges) + 1) * 4e-11 * self.n_items**3
        return total
