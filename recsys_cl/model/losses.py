"""Losses: comes in logits, goes out one number to minimize."""

from __future__ import annotations

import torch
from torch import Tensor

# Low enough that exp() of it is 0 in float32 beside any logit, finite so that no gradient becomes NaN.
MASKED_LOGIT = -1e4


def compute_sampled_softmax(
    positive_logits: Tensor, owners: Tensor, weights: Tensor, candidate_logits: Tensor, hits: tuple[Tensor, Tensor]
) -> Tensor:
    """Sampled softmax, also known as InfoNCE (Bengio and Senécal 2008; van den Oord et al. 2018), a query a row.

    positive_logits [p] and weights [p], positive j belongs to query owners[j]; candidate_logits [b, c], log_q already
    subtracted; hits: (queries [h], candidates [h]) that are no negatives (accidental hits, the query's own bag).
    Each positive competes with the negatives of its query, never with the query's other positives. Returns the mean of
    the positives' losses, weighted; weights need not sum to 1.
    """
    negatives = candidate_logits.index_put(hits, candidate_logits.new_tensor(MASKED_LOGIT))  # [b, c]
    log_negatives = torch.logsumexp(negatives, dim=1)  # [b]
    losses = torch.logaddexp(log_negatives[owners], positive_logits) - positive_logits  # [p]
    return (losses * weights).sum() / weights.sum()
