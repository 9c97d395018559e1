"""The gate: each kind of bad release is refused with both figures, and a good one passes."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.config import PublishingConfig
from recsys_cl.errors import RefusedError
from recsys_cl.evaluation.beside import Change, Comparison
from recsys_cl.publishing.gate import Beside, Gain, GateFacts, check_finite, check_gate, enforce_gate, measure_vectors
from recsys_cl.publishing.manifest import Drift, GateResult

CONFIG = PublishingConfig()


def draw(n: int = 500, dim: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    vectors[:, :-1] /= np.linalg.norm(vectors[:, :-1], axis=1, keepdims=True)
    vectors[:, -1] = -2.0
    return vectors


def check(
    vectors: np.ndarray | None = None,
    ann_recall: float = 1.0,
    gain: Gain | None = None,
    config: PublishingConfig = CONFIG,
) -> list[str]:
    given = draw() if vectors is None else vectors
    return check_gate(GateFacts({"item vectors": measure_vectors(given, given.shape[1] - 1)}, ann_recall, gain), config)


def test_a_good_release_passes() -> None:
    assert check(gain=Gain("ndcg@20", 0.3, 0.2, 0.05, 0.15, 900)) == []


def test_a_model_no_worse_than_chance_allows_passes() -> None:
    assert check(gain=Gain("ndcg@20", 0.19, 0.2, -0.03, 0.01, 900)) == []


@pytest.mark.parametrize("column", [0, -1])
def test_nan_is_refused_with_how_many(column: int) -> None:
    vectors = draw()
    vectors[[3, 5], column] = np.nan
    vectors[8, column] = np.inf
    check_finite({"user vectors": draw()})
    with pytest.raises(RefusedError) as caught:
        check_finite({"item vectors": vectors, "user vectors": draw()})
    assert caught.value.reasons == ["3 of 500 item vectors hold NaN or infinity, 0 may"]


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_collapsed_vectors_are_refused(noise: float) -> None:
    vectors = draw()
    vectors[:, :-1] = vectors[0, :-1] + noise * vectors[:, :-1]
    (reason,) = check(vectors)
    assert reason.startswith("item vectors have collapsed: effective rank 1.0")
    assert reason.endswith("least 2.00")


def test_popularity_neither_hides_nor_feigns_a_collapse() -> None:
    vectors = draw()
    vectors[:, -1] = -50.0
    assert check(vectors) == []


@pytest.mark.parametrize(("n", "dim"), [(1, 16), (2, 16), (500, 2)])
def test_few_vectors_or_floats_are_no_collapse(n: int, dim: int) -> None:
    assert check(draw(n, dim)) == []


def test_an_index_that_misses_is_refused() -> None:
    assert check(ann_recall=0.91) == ["the index finds 0.9100 of the exact top 10, least 0.9500"]
    assert len(check(ann_recall=float("nan"))) == 1


def test_a_model_below_popularity_is_refused_with_both_figures() -> None:
    gain = Gain("ndcg@20", 0.1234, 0.2345, -0.13, -0.09, 900)
    (reason,) = check(gain=gain)
    assert all(figure in reason for figure in ("ndcg@20", "0.1234", "0.2345", "-0.1300", "-0.0900", "900 users"))


def test_too_few_users_are_not_judged() -> None:
    assert check(gain=Gain("ndcg@20", 0.1, 0.2, -0.13, -0.09, 49)) == []
    assert check(gain=None) == []


def test_gain_need_not_be_required() -> None:
    gain = Gain("ndcg@20", 0.1, 0.2, -0.13, -0.09, 900)
    assert check(gain=gain, config=PublishingConfig(require_gain=False)) == []


def test_every_reason_is_named() -> None:
    vectors = np.ones((500, 16), dtype=np.float32)
    assert len(check(vectors, 0.5, Gain("ndcg@20", 0.1, 0.2, -0.13, -0.09, 900))) == 3


def test_only_a_reason_forces_a_refused_release() -> None:
    enforce_gate(GateResult())
    enforce_gate(GateResult(reasons=("bad",), forced="a reason"))
    for forced in (None, ""):
        with pytest.raises(RefusedError, match=r"bad.*--force REASON") as caught:
            enforce_gate(GateResult(reasons=("bad",), forced=forced))
        assert (caught.value.exit_code, caught.value.reasons) == (1, ["bad"])


SAME = Comparison(500, (), (0.5, 0.5), (0.4, 0.4))
CALM = Drift(release="r", n_items=100, churn=0.2, stored_before=1.0, stored_after=0.3)


def check_beside(
    compared: Comparison | None = SAME,
    items_lost: float = 0.0,
    drift: Drift = CALM,
    health: dict[str, float] | None = None,
    live_auc: float = 0.9,
    config: PublishingConfig = CONFIG,
) -> list[str]:
    """A good release, beside a live one that differs in what is given."""
    own = {"item vectors": measure_vectors(draw(), 15)}
    theirs = {"item vectors": own["item vectors"] | (health or {})}
    beside = Beside("r", compared, theirs, items_lost, drift, live_auc)
    return check_gate(GateFacts(own, 1.0, None, (0.9, 0.9), beside), config)


def lose(part: str, high: float, n_users: int = 500) -> Comparison:
    """A tenth of a recall of 0.2 is lost, at best `high`."""
    change = Change(part, "recall@20", 0.2, 0.18, high - 0.02, high, n_users)
    return Comparison(n_users, (change,), SAME.coverage, SAME.popularity_share)


def test_what_is_as_good_as_the_live_release_passes() -> None:
    assert check_beside() == []
    assert check_beside(compared=None) == []


@pytest.mark.parametrize(
    ("part", "high", "n_users", "refused"),
    [
        ("everyone", -0.011, 500, True),  # 5 % of 0.2 is 0.01
        ("everyone", -0.009, 500, False),
        ("everyone", -0.15, 49, False),
        ("tail_items", -0.099, 500, False),  # 50 % of 0.2 is 0.1
        ("tail_items", -0.101, 500, True),
    ],
)
def test_a_loss_beyond_chance_and_budget_is_refused_with_both_figures(
    part: str, high: float, n_users: int, refused: bool
) -> None:
    reasons = check_beside(lose(part, high, n_users))
    assert len(reasons) == refused
    assert all(text in reason for reason in reasons for text in (part, "0.1800", "0.2000", f"{n_users} users"))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"live_auc": 0.98}, "in 90.0% of cases, that of the live release in 98.0%"),
        ({"items_lost": 0.101}, "10.1% of the live release's items are gone"),
        ({"drift": CALM.model_copy(update={"churn": 0.95})}, "95.0% of the top 10 neighbors changed over 100 items"),
        ({"compared": Comparison(500, (), (0.5, 0.2), (0.4, 0.4))}, "lists show 20.0% of the catalog"),
        ({"compared": Comparison(500, (), (0.5, 0.5), (0.4, 0.7))}, "70.0% of what is shown is among the most popular"),
        ({"health": {"effective_rank": 40.0}}, "of the live release 40.00: least 20.00"),
        ({"health": {"norm_max": 0.01, "norm_median": 1.0}}, "the longest of the item vectors is 1.0 times the median"),
    ],
)
def test_everything_else_that_got_worse_is_named(given: dict[str, object], named: str) -> None:
    (reason,) = check_beside(**given)  # type: ignore[arg-type]
    assert named in reason
    assert check_beside(**given, config=PublishingConfig(compare_live=False)) == []  # type: ignore[arg-type]


def test_a_published_fit_that_does_not_know_its_users_is_refused() -> None:
    for auc, n in ((0.55, 1), (0.84, 0)):
        facts = GateFacts({"item vectors": measure_vectors(draw(), 15)}, 1.0, None, (0.9, auc))
        assert len(check_gate(facts, CONFIG)) == n
