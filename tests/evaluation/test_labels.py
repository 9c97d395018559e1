"""What vectors know of labels: all where they lie apart, no more than chance where they do not."""

from __future__ import annotations

import numpy as np

from recsys_cl.evaluation.labels import judge_labels

LABELS = np.arange(300) % 3


def test_labels_that_lie_apart_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(300, 8)).astype(np.float32)
    apart = noise.copy()
    apart[np.arange(300), LABELS] += 8
    known, unknown = (judge_labels(vectors, LABELS, 0) for vectors in (apart, noise))
    assert known is not None
    assert unknown is not None
    for name in ("knn", "linear_probe"):
        assert known[name] > 0.97
        assert 0.2 < unknown[name] < 0.47
    assert (known["n_labeled"], known["n_kinds"]) == (300, 3)


def test_what_has_no_label_or_too_few_of_it_plays_no_part() -> None:
    labels = LABELS.copy()
    labels[:30] = -1
    labels[30] = 9
    found = judge_labels(np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32), labels, 0)
    assert found is not None
    assert (found["n_labeled"], found["n_kinds"]) == (269, 3)
    assert judge_labels(np.ones((300, 4), np.float32), np.zeros(300, np.int64), 0) is None
    assert judge_labels(np.ones((300, 4), np.float32), np.full(300, -1), 0) is None
