"""Objectives of pictures: comes in the vectors of one batch, goes out logits for the losses that all variants share.

    views           the other view of a picture against all other views of the batch (NT-Xent; SimCLR, ICML 2020)
    labels          all views of the same label against those of other labels (SupCon; Khosla et al., NeurIPS 2020)
    collaborative   the place of the picture's item among the interactions against those of other items (as CLIP has
                    text; Radford et al., ICML 2021)

Co-interaction needs no piece of its own: there a picture stands for its item in the towers of the interactions. Near
duplicates, told by their group, are never negatives of one another. shift: any number, by chance; see `Logits`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_cl.model.encoders import normalize
from recsys_cl.model.losses import Logits
from recsys_cl.model.scores import widen_candidates, widen_queries


def contrast_views(vectors: Tensor, groups: Tensor, temperature: Tensor, score: str, shift: int = 0) -> Logits:
    """vectors [2b, d]: b pictures in one view, then the same in another; groups [b]: of near-duplicates."""
    places = torch.arange(len(vectors))
    twice = groups.repeat(2)
    partners = (places + len(groups)) % len(vectors)
    positives = torch.zeros(len(vectors), len(vectors), dtype=torch.bool)
    positives[places, partners] = True
    return _build_logits((vectors, vectors), positives, twice[:, None] == twice, temperature, score, shift)


def contrast_labels(
    vectors: Tensor, groups: Tensor, labels: Tensor, temperature: Tensor, score: str, shift: int = 0
) -> Logits | None:
    """As `contrast_views`; labels [b], -1 for a picture without one, which plays no part. None where nobody has a
    partner."""
    known = torch.nonzero(labels.repeat(2) >= 0).squeeze(1)
    if not len(known):
        return None
    kinds, twice = labels.repeat(2)[known], groups.repeat(2)[known]
    alike = kinds[:, None] == kinds
    positives = alike & ~torch.eye(len(known), dtype=torch.bool)
    chosen = vectors.index_select(0, known)
    return _build_logits((chosen, chosen), positives, alike | (twice[:, None] == twice), temperature, score, shift)


def contrast_places(
    vectors: Tensor, groups: Tensor, places: Tensor, known: Tensor, temperature: Tensor, shift: int = 0
) -> Logits | None:
    """vectors [2b, d] of pictures against the places [b, d] of their items; known [b]: which items have one. None where
    fewer than two have."""
    if int(known.sum()) < 2:
        return None
    asked = torch.nonzero(known.repeat(2)).squeeze(1)
    offered = torch.nonzero(known).squeeze(1)
    own = torch.nonzero(known.repeat(2)).squeeze(1) % len(groups)
    positives = own[:, None] == offered
    same = groups[own][:, None] == groups[offered]
    pair = (vectors.index_select(0, asked), places.index_select(0, offered))
    return _build_logits(pair, positives, same, temperature, "cosine", shift)


def _build_logits(
    pair: tuple[Tensor, Tensor], positives: Tensor, hits: Tensor, temperature: Tensor, score: str, shift: int
) -> Logits:
    """pair: queries [q, d], candidates [c, d]; positives [q, c]; hits [q, c]: no negatives. Queries weigh alike."""
    queries, candidates = (normalize(part) if score == "cosine" else part for part in pair)
    scores = widen_queries(queries, score) @ widen_candidates(candidates, score).T / temperature
    owners, columns = torch.nonzero(positives, as_tuple=True)
    hits = hits | positives
    counts = torch.bincount(owners, minlength=len(queries))
    return Logits(
        candidates=scores,
        log_q=torch.zeros(len(candidates)),
        hits=tuple(torch.nonzero(hits, as_tuple=True)),  # type: ignore[arg-type]
        owners=owners,
        weights=1.0 / counts[owners],
        total_weight=float((counts > 0).sum()),
        n_others=(~hits).sum(dim=1),
        shift=shift,
        temperature=temperature,
        columns=columns,
    )
