"""Losses: comes in the logits of one batch, goes out one number to minimize.

Each has a full form, over every item that a query's user has not touched, and is here computed from the candidates of a
batch so that its gradient is that of the full form in expectation: a candidate's terms count exp(-log_q) times, for it
stands for so many items (for softmax, whose sum is inside a logarithm, the bias falls with the number of candidates).

    softmax              -log (e^s⁺ / (e^s⁺ + Σ e^s⁻))       Bengio and Senécal 2008; InfoNCE, van den Oord et al. 2018
    bilateral_softmax    log Σ e^s⁻ - r⁻¹ log mean e^(r s⁺)   BSL; Wu et al., ICDE 2024
    bpr                  mean log(1 + e^(s⁻ - s⁺))            Rendle et al., UAI 2009
    cosine_contrastive   (1 - f⁺) + w mean max(0, f⁻ - m)     SimpleX; Mao et al., CIKM 2021

s are logits, f = temperature × s scores; r = temperature / positive_temperature. A positive competes with negatives
alone, never with the user's other items. All return the sum over the positives, by their weights, over total_weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_cl.config import LossConfig

# Low enough that exp() of it is 0 in float32 beside any logit, finite so that no gradient becomes NaN.
MASKED_LOGIT = -1e30


@dataclass(frozen=True)
class Logits:
    """What a loss takes; it may overwrite `candidates`.

    candidates [q, c]: a line a query, log_q [c] already subtracted. hits: (bags [h], candidates [h]) that are no
    negatives: accidental hits, the positives among them, and the user's other items; bag_of [q], ascending: the bag of
    each query, None where each is its own. owners [p]: the query of each positive, ascending; weights [p], 0 or above;
    total_weight: their sum, had every event the mean weight. positives [p]: their logits; or columns [p]: where they
    stand among the candidates. n_others [q]: how many items of the catalog are negatives of the query. shift: 0…c - 1,
    by chance. temperature: of the logits.
    """

    candidates: Tensor
    log_q: Tensor
    hits: tuple[Tensor, Tensor]
    owners: Tensor
    weights: Tensor
    total_weight: float
    n_others: Tensor
    shift: int
    temperature: Tensor
    positives: Tensor | None = None
    columns: Tensor | None = None
    bag_of: Tensor | None = None


def compute_loss(logits: Logits, config: LossConfig) -> Tensor:
    """The loss of config.kind, a scalar."""
    return LOSSES[config.kind](logits, config)


def compute_softmax(logits: Logits, config: LossConfig) -> Tensor:
    """Softmax over the catalog or its sample (InfoNCE): each positive against its query's negatives."""
    del config
    log_negatives, positives = _contrast(logits)  # [q], [p]
    losses = torch.logaddexp(log_negatives.index_select(0, logits.owners), positives) - positives
    return (losses * logits.weights).sum() / logits.total_weight


def compute_bilateral_softmax(logits: Logits, config: LossConfig) -> Tensor:
    """The same log-mean-exp for positives as for negatives: a positive that scores low, noise maybe, pulls less.

    Up to log of the number of negatives, which no gradient sees. A query without a negative among the candidates, or
    without a positive of any weight, is left out: it would only pull.
    """
    log_negatives, positives = _contrast(logits)  # [q], [p]
    ratio = logits.temperature / config.positive_temperature
    voices = torch.zeros_like(log_negatives).index_add(0, logits.owners, logits.weights)  # [q]
    scaled = ratio * positives
    top = torch.full_like(log_negatives, -torch.inf).scatter_reduce(0, logits.owners, scaled.detach(), "amax")
    top = torch.where(torch.isfinite(top), top, 0.0)  # a query without a positive
    heard = torch.exp(scaled - top[logits.owners]) * logits.weights
    summed = torch.zeros_like(log_negatives).index_add(0, logits.owners, heard)
    told = (voices > 0) & (log_negatives.detach() > MASKED_LOGIT / 2)
    log_positives = (summed[told] / voices[told]).log() + top[told]  # [≤ q]
    losses = log_negatives[told] - log_positives / ratio
    return (losses * voices[told]).sum() / logits.total_weight


def compute_bpr(logits: Logits, config: LossConfig) -> Tensor:
    """Each positive against n_pair_negatives of the candidates, which of them by chance; or all, where that is more."""
    c = logits.candidates.shape[1]
    positives = _get_positives(logits)  # [p]
    n_pairs = min(config.n_pair_negatives, c)
    first = logits.shift + n_pairs * torch.arange(len(positives))
    columns = (first.unsqueeze(1) + torch.arange(n_pairs)) % c  # [p, n_pairs], each column equally often by `shift`
    masked = _mask(logits.candidates.clone(), logits)
    negatives = masked[logits.owners.unsqueeze(1), columns] + logits.log_q[columns]
    stands_for = torch.exp(-logits.log_q)[columns] * (c / n_pairs)  # items
    costs = (torch.nn.functional.softplus(negatives - positives.unsqueeze(1)) * stands_for).sum(dim=1)
    losses = costs / logits.n_others[logits.owners].clamp_min(1)
    return (losses * logits.weights).sum() / logits.total_weight


def compute_cosine_contrastive(logits: Logits, config: LossConfig) -> Tensor:
    """Positives are pulled to a score of 1, negatives pushed below the margin."""
    positives = _get_positives(logits) * logits.temperature  # [p], scores
    scores = (logits.candidates + logits.log_q) * logits.temperature  # [q, c]
    costs = torch.relu(_mask(scores, logits) - config.margin) @ torch.exp(-logits.log_q)  # [q]
    pushed = config.negative_weight * costs / logits.n_others.clamp_min(1)
    losses = 1 - positives + pushed[logits.owners]
    return (losses * logits.weights).sum() / logits.total_weight


LOSSES: dict[str, Callable[[Logits, LossConfig], Tensor]] = {
    "softmax": compute_softmax,
    "bilateral_softmax": compute_bilateral_softmax,
    "bpr": compute_bpr,
    "cosine_contrastive": compute_cosine_contrastive,
}


def _get_positives(logits: Logits) -> Tensor:
    if logits.positives is not None:
        return logits.positives
    assert logits.columns is not None
    return logits.candidates[logits.owners, logits.columns] + logits.log_q[logits.columns]


def _mask(values: Tensor, logits: Logits) -> Tensor:
    """Put MASKED_LOGIT at the hits of values [q, c], in place; of queries that share a bag by a table of bytes."""
    if logits.bag_of is None:
        return values.index_put_(logits.hits, values.new_tensor(MASKED_LOGIT))
    hit = torch.zeros(int(logits.bag_of[-1]) + 1, values.shape[1], dtype=torch.bool)
    hit.index_put_(logits.hits, torch.tensor(True))
    return values.masked_fill_(hit.index_select(0, logits.bag_of), MASKED_LOGIT)


def _contrast(logits: Logits) -> tuple[Tensor, Tensor]:
    """Log of the summed exponentials of each query's negatives [q], and the logits of the positives [p]."""
    apply: Callable[..., tuple[Tensor, Tensor]] = _Contrast.apply
    if logits.columns is None:
        assert logits.positives is not None
        return apply(logits.candidates, logits)[0], logits.positives
    log_negatives, positives = apply(logits.candidates, logits)
    return log_negatives, positives + logits.log_q[logits.columns]


class _Contrast(torch.autograd.Function):
    """logsumexp of the unmasked candidates, in the memory of the candidates: three passes over [q, c] there and back,
    where single operations take a dozen. Positives that are candidates come from, and their gradients go to, the same
    matrix: they are masked, so that nothing else is there."""

    @staticmethod
    def forward(ctx: Any, candidates: Tensor, logits: Logits) -> tuple[Tensor, Tensor | None]:
        # `candidates` is overwritten without `mark_dirty`: nobody reads it again, and what made it keeps no copy.
        positives = None if logits.columns is None else candidates[logits.owners, logits.columns]
        _mask(candidates, logits)
        top = candidates.amax(dim=1)
        shares = torch.softmax(candidates, dim=1, out=candidates)  # exactly 0 where masked, …
        log_sums = top - shares.amax(dim=1).log()
        open_ = (top > MASKED_LOGIT / 2).to(top.dtype)  # … unless a whole line is
        ctx.save_for_backward(open_, *(() if logits.columns is None else (logits.owners, logits.columns)))
        ctx.shares = shares
        return log_sums, positives

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sums: Tensor, of_positives: Tensor | None) -> tuple[Tensor | None, ...]:
        open_, *places = ctx.saved_tensors
        gradient = ctx.shares.mul_((of_sums * open_).unsqueeze(1))
        if places:
            gradient.index_put_(places, of_positives)
        ctx.shares = None  # it has been overwritten
        return gradient, None
