"""Screening: comes in a judge, goes out the settings of a tower that reads histories without order, found by short
trainings, one setting after the other; the test part plays no role here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import InputError
from recsys_cl.training.trainer import train
from recsys_cl.trials import VALIDATION_K, Figures, Judge, Place, free_settings, judge_vectors

BAG, SEQUENCE, LINEAR = "bag", "sequence", "linear"
# Of a tower that knows no order, as far as the recipe has no setting for it; the figures are in benchmarks/LEDGER.md.
QUERY_HIDDEN = 1024
_BAG = {
    "model.tied": True,
    "model.user_weight": 0.0,
    "model.degree_power": 0.3,
    "model.query_hidden": QUERY_HIDDEN,
    "training.tower_learning_rate": 0.001,
    "training.schedule": "constant",  # it is the average that comes to rest
    "training.average_power": 2.0,
}


def choose_bag(judge: Judge, config: Config, place: Place) -> tuple[list[str], list[str]]:
    """The settings of a tower that are the best of short trainings, one after the other, and the reasons."""
    recipe = config.recipe
    ladders = {
        "model.temperature": sorted(recipe.temperatures),
        "model.neighbor_weight": sorted(recipe.neighbor_weights),
        "sampling.voice_power": sorted(recipe.voice_powers),
        "model.popularity_weight": sorted(recipe.popularity_weights),
    }
    chosen = {name: _start(config, name, ladder) for name, ladder in ladders.items()}
    if not {BAG, SEQUENCE} & set(recipe.towers):
        return _describe_bag(config, chosen), []
    least = config.training.least_steps * recipe.screen_epochs // recipe.bag_epochs
    short = free_settings({"training.epochs": recipe.screen_epochs, "training.least_steps": least}, recipe.keep)
    found: dict[tuple[str, ...], Figures] = {}

    def measure(name: str, value: float) -> Figures:
        own = tuple(_describe_bag(config, chosen | {name: value}))
        if own not in found:
            shown = Place(place.name(f"{_say(name)} {value:g}").progress)
            model = train(judge.train, apply_settings(config, [*own, *short]), hooks=shown.build_hooks()).model
            found[own] = judge_vectors(judge, judge.encode(model))
        return found[own]

    reasons = []
    for name, ladder in ladders.items():
        if name in recipe.keep or len(ladder) < 2:
            continue
        try:
            chosen[name], said = _climb(ladder, partial(measure, name))
        except InputError:  # nobody holds a pair: the trials will say so
            break
        reasons.append(f"{_say(name)} {chosen[name]:g}: best after {recipe.screen_epochs} epochs ({said})")
    return _describe_bag(config, chosen), reasons


def _start(config: Config, name: str, ladder: Sequence[float]) -> float:
    """What a setting is before it is chosen: as it is given or by default, where that may be chosen; else the least."""
    section, _, key = name.partition(".")
    value = float(getattr(getattr(config, section), key))
    return value if name in config.recipe.keep or value in ladder else ladder[0]


def _say(name: str) -> str:
    """A setting's name, for people."""
    return name.partition(".")[2].replace("_", " ")


def _climb(ladder: Sequence[float], measure: Callable[[float], Figures]) -> tuple[float, str]:
    """The best rung of an ascending ladder of two or more, climbed from its middle for as long as it gets better, so
    that most rungs are never measured; and what was measured, for people."""
    found: dict[float, Figures] = {}

    def look(at: int) -> float:
        """How good a rung is; below every other beyond the ends."""
        if not 0 <= at < len(ladder):
            return -1.0
        found[ladder[at]] = measure(ladder[at])
        return found[ladder[at]].value

    at = (len(ladder) - 1) // 2
    direction = 1 if look(at + 1) > look(at) else -1
    while look(at + direction) > look(at):
        at += direction
    said = ", ".join(f"{rung:g}: {found[rung].recall:.4f}" for rung in sorted(found))
    return ladder[at], f"recall@{VALIDATION_K} of {said}"


def _describe_bag(config: Config, chosen: Mapping[str, float]) -> list[str]:
    """The settings of a tower that knows no order."""
    recipe = config.recipe
    settings = _BAG | {
        **chosen,
        "training.epochs": recipe.bag_epochs,
        "training.learning_rate": recipe.bag_learning_rate,
    }
    if not chosen["model.neighbor_weight"]:  # with neighbors a step touches most rows: fewer, larger ones
        settings["training.batch_users"] = 256
    return free_settings(settings, recipe.keep)
