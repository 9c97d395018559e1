"""What vectors know of labels: comes in vectors and labels, goes out how well others of the same label are found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FOLDS, _NEIGHBORS, _MOST = 5, 5, 10_000


def judge_labels(vectors: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> dict[str, Any] | None:
    """`{"n_labeled", "n_kinds", "knn", "linear_probe"}`: accuracies out of fold, of five, over vectors [n, dim] with
    labels [n], -1 for none; None where fewer than two labels have five vectors each.

    knn: the vote of the five nearest by cosine; linear_probe: logistic regression. At most 10,000 vectors are judged.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = np.bincount(labels[labels >= 0])
    rows = np.flatnonzero((labels >= 0) & np.isin(labels, np.flatnonzero(counts >= _FOLDS)))
    if len(np.unique(labels[rows])) < 2:
        return None
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:_MOST])
    unit = vectors[rows] / np.maximum(np.linalg.norm(vectors[rows], axis=1, keepdims=True), 1e-12)
    models = {
        "knn": KNeighborsClassifier(_NEIGHBORS, weights="distance"),  # at unit length the distance orders as the cosine
        "linear_probe": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    }
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    found = {name: float(cross_val_score(model, unit, labels[rows], cv=folds).mean()) for name, model in models.items()}
    return {"n_labeled": len(rows), "n_kinds": len(np.unique(labels[rows]))} | found
