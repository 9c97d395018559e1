"""The recipe: comes in training interactions, goes out vectors; every choice is made on a validation part of them.

    1  settings      temperature, weights of an item's neighbors, of heavy users, of popularity: short trainings of a
                     tower that reads histories without order
    2  towers        that tower in full, stopped where held-out recall no longer gains; one that reads in order, where
                     the log has one; and the closed form, where the catalog is small enough
    3  blend         the best of them, and each other one whose blend with it, brought back to `dim` floats, is better
                     by more than a standard error; else it is left out

Then what was chosen is fitted anew to all events, for as many steps. The test part plays no role here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.budget import SEQUENCE_STEP_COST, cut_to_budget, list_tried
from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import InputError
from recsys_cl.interactions.table import Interactions
from recsys_cl.model.blend import find_history_length
from recsys_cl.model.towers import TwoTowers
from recsys_cl.plan import Choice, Member, Plan
from recsys_cl.screening import BAG, LINEAR, SEQUENCE, choose_bag
from recsys_cl.training.encode import Model, blend_vectors, build_blend, encode_candidates, encode_queries
from recsys_cl.training.linear import fit_linear
from recsys_cl.training.trainer import train
from recsys_cl.trials import (
    Figures,
    Judge,
    Place,
    build_judge,
    check_finite,
    describe_stop,
    free_settings,
    judge_vectors,
    measure_scale,
)


@dataclass(frozen=True)
class Fit:
    """A model trained on one set of interactions; queries [n_users, dim], candidates [n_items, dim]."""

    model: Model
    queries: NDArray[np.float32]
    candidates: NDArray[np.float32]
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class _Trial:
    """A model that was trained on the judge's part: the member it would be, without its weight; unit: of its logits."""

    member: Member
    model: TwoTowers
    figures: Figures
    divisor: float
    unit: float


def choose_plan(train_part: Interactions, config: Config, place: Place = Place()) -> Plan:
    """Choose as the module says; with recipe.search off, the number of steps alone.

    Without a validation part, or with fewer than 10 users in it, the settings hold as they stand, for all epochs.
    """
    judge: Judge | str = ""
    if config.recipe.search:
        try:
            judge = build_judge(train_part, config)
        except InputError as error:
            judge = f"no validation part ({error.found})"
    if not isinstance(judge, Judge):
        choice = choose_steps(train_part, config, place)
        member = Member("given", [], choice.n_steps, choice.n_planned, 1.0)
        return Plan((member,), [choice.reason], {"given": choice.history}, {})
    n_users = int(np.count_nonzero(np.diff(judge.train.offsets) >= 2))
    size = (n_users, judge.train.n_items, train_part.n_events)
    config, reasons = cut_to_budget(config, size, _list_kinds(judge, config))
    settings, said = choose_bag(judge, config, place)
    reasons += said
    trials, histories = [], {}
    for kind in _list_kinds(judge, config):
        trial, reason, history = _try(kind, judge, config, settings, place)
        if trial is not None:
            trials.append(trial)
        reasons.append(reason)
        if history:
            histories[kind] = history
    if not trials:
        choice = choose_steps(train_part, config, place)
        return Plan((Member("given", [], None, None, 1.0),), [*reasons, choice.reason], {}, {})
    members, figures, said = _choose_blend(judge, config, trials)
    return Plan(members, reasons + said, histories, {"recall": figures.recall, "ndcg": figures.ndcg})


def fit_plan(interactions: Interactions, config: Config, plan: Plan, place: Place = Place()) -> Fit:
    """Fit each member to all of `interactions`, blend them, and encode every user and item."""
    if len(plan.members) == 1 and plan.members[0].kind != LINEAR:
        member = plan.members[0]
        choice = Choice(member.n_steps, [], "", member.n_planned)
        return fit(interactions, apply_settings(config, member.settings), choice, place)
    models: list[TwoTowers] = []
    history: list[dict[str, Any]] = []
    for member in plan.members:
        own = apply_settings(config, member.settings)
        if member.kind == LINEAR:
            models.append(_fit_linear(interactions, own))
            continue
        hooks = place.name(member.kind).build_hooks()
        trained = train(interactions, own, n_steps=member.n_steps, n_planned=member.n_planned, hooks=hooks)
        models.append(trained.model)
        history += [entry | {"tower": member.kind} for entry in trained.history]
    model: Model = models[0]
    if len(models) > 1:
        weights = [member.weight for member in plan.members]
        model = build_blend(models, weights, config.model.dim, interactions.to_bags(), np.arange(interactions.n_users))
    return _encode(model, interactions, history)


def choose_steps(train_part: Interactions, config: Config, place: Place = Place()) -> Choice:
    """Train on most of the training events, stop where recall@20 of the others no longer gains.

    Without a validation part, with fewer than 10 users in it, or with too little left beside it to train on, all epochs
    are run and `reason` says so.
    """
    everything = f"all {config.training.epochs} epochs"
    try:
        judge = build_judge(train_part, config)
    except InputError as error:
        judge = f"no validation part ({error.found})"
    if isinstance(judge, str):
        return Choice(None, [], f"{everything}: {judge}")
    try:
        trained = train(judge.train, config, hooks=place.build_hooks(judge.validation))
    except InputError as error:  # without the validation part too little is left
        return Choice(None, [], f"{everything}: nothing to validate ({error.found})")
    reason = describe_stop(trained.history, trained.n_steps, len(judge.user_rows))
    return Choice(trained.n_steps, trained.history, reason, trained.n_planned)


def fit(interactions: Interactions, config: Config, choice: Choice, place: Place = Place()) -> Fit:
    """Train on all of `interactions` as chosen, and encode every user and item. Raises RefusedError for NaN vectors."""
    trained = train(interactions, config, n_steps=choice.n_steps, n_planned=choice.n_planned, hooks=place.build_hooks())
    return _encode(trained.model, interactions, trained.history)


def _encode(model: Model, interactions: Interactions, history: list[dict[str, Any]]) -> Fit:
    queries = encode_queries(model, interactions.to_bags(), np.arange(interactions.n_users))
    candidates = encode_candidates(model)
    check_finite(queries, candidates)
    return Fit(model, queries, candidates, history)


def _list_kinds(judge: Judge, config: Config) -> list[str]:
    """The towers to try: in order only where the log has one; of two that what is given makes alike, one."""
    kinds = list_tried(config, judge.train.timed)
    if {"model.history", "sampling.positives"} & set(config.recipe.keep) and {BAG, SEQUENCE} <= set(kinds):
        reads_order = config.model.history in ("gru", "transformer") or config.sampling.positives == "next"
        kinds.remove(BAG if reads_order else SEQUENCE)
    return kinds


def _try(
    kind: str, judge: Judge, config: Config, settings: Sequence[str], place: Place
) -> tuple[_Trial | None, str, list[dict[str, Any]]]:
    """Fit one kind of tower to the judge's part; None where it cannot be, and why."""
    if kind == LINEAR:
        return _try_linear(judge, config)
    own_settings = list(settings)
    if kind == SEQUENCE:
        recipe = config.recipe
        own_settings += free_settings(
            {
                "model.history": "transformer",
                "sampling.positives": "next",
                "sampling.voice_power": 1.0,
                "model.popularity_weight": config.model.popularity_weight,
                "model.query_hidden": config.model.query_hidden,
                "model.dropout": recipe.sequence_dropout,
                "training.epochs": recipe.sequence_epochs,
                "training.least_steps": config.training.least_steps // SEQUENCE_STEP_COST,
                "training.learning_rate": recipe.sequence_learning_rate,
                "training.tower_learning_rate": config.training.tower_learning_rate,
                "training.schedule": config.training.schedule,
                "training.average_power": config.training.average_power,
                "training.batch_users": config.training.batch_users,
            },
            recipe.keep,
        )
    own = apply_settings(config, own_settings)
    try:
        trained = train(judge.train, own, hooks=place.name(kind).build_hooks(judge.validation))
    except InputError as error:
        return None, f"{kind} tower: left out ({error.found})", []
    vectors = judge.encode(trained.model)
    divisor = float(trained.model.temperature.detach())
    figures, unit = judge_vectors(judge, vectors), measure_scale(vectors, divisor)
    member = Member(kind, own_settings, trained.n_steps, trained.n_planned, 1.0)
    reason = f"{kind} tower: {figures.describe()}; {describe_stop(trained.history, trained.n_steps, len(vectors[0]))}"
    return _Trial(member, trained.model, figures, divisor, unit), reason, trained.history


def _try_linear(judge: Judge, config: Config) -> tuple[_Trial | None, str, list[dict[str, Any]]]:
    recipe, n_items = config.recipe, judge.train.n_items
    if n_items > recipe.most_linear_items:
        return None, f"closed form: left out, {n_items:,} items are more than {recipe.most_linear_items:,}", []
    best: _Trial | None = None
    said = []
    for ridge in recipe.ridges:
        member = Member(LINEAR, free_settings({"recipe.ridges": [ridge]}, ()), None, None, 1.0)
        model = _fit_linear(judge.train, apply_settings(config, member.settings))
        vectors = judge.encode(model)
        figures = judge_vectors(judge, vectors)
        said.append(f"{ridge:g}: {figures.recall:.4f}")
        if best is None or figures.value > best.figures.value:
            best = _Trial(member, model, figures, 1.0, measure_scale(vectors, 1.0))
    assert best is not None, "there is at least one ridge"
    return best, f"closed form: {best.figures.describe()}; best of ridges ({', '.join(said)})", []


def _fit_linear(interactions: Interactions, config: Config) -> TwoTowers:
    return fit_linear(interactions, config.model, config.recipe.ridges[0], config.recipe.user_power)


def _choose_blend(
    judge: Judge, config: Config, trials: Sequence[_Trial]
) -> tuple[tuple[Member, ...], Figures, list[str]]:
    """The best model, and every other one that gains beside it."""
    ranked = sorted(trials, key=lambda trial: -trial.figures.value)
    chosen, weights, best = [ranked[0]], [1.0 / ranked[0].unit], ranked[0].figures
    reasons = [f"{ranked[0].member.kind}: the best by itself"] if len(ranked) > 1 else []
    for trial in ranked[1:]:
        tried: dict[float, Figures] = {}
        joint = [*chosen, trial]
        length = find_history_length([t.model for t in joint])
        vectors = [judge.encode(t.model, length) for t in joint]  # as they are read in a blend
        for weight in config.recipe.blend_weights:
            scales = [w / t.divisor for w, t in zip([*weights, weight / trial.unit], joint, strict=True)]
            joined, compressed = blend_vectors(vectors, scales, config.model.dim)
            tried[weight] = judge_vectors(judge, (compressed.encode(joined), compressed.candidates))
        if not tried:
            continue
        weight = max(tried, key=lambda w: tried[w].value)
        gained = tried[weight].value - best.value
        if tried[weight].is_better(best):
            chosen.append(trial)
            weights.append(weight / trial.unit)
            best = tried[weight]
            reasons.append(f"{trial.member.kind} joins with weight {weight:g}: {best.describe()} ({gained:+.4f})")
        else:
            reasons.append(f"{trial.member.kind} stays out: the blend gains {gained:+.4f}, no more than chance")
    members = [
        Member(t.member.kind, t.member.settings, t.member.n_steps, t.member.n_planned, weight)
        for t, weight in zip(chosen, weights, strict=True)
    ]
    return tuple(members), best, reasons
