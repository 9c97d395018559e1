"""Exact top-k in blocks: comes in as vectors, or as a function that scores a block of queries; goes out as neighbors.

A block is scored against all candidates at once. Its k best are found without sorting it: the candidates are folded
into groups, and the k-th best of the groups' maxima is a score that at least k candidates reach, so one comparison
leaves little more than k of them to sort. That reads each score twice at the speed of memory, where a partition of
the whole block takes some fifty times as long. Blocks run on all cores, each with a product of one thread.

A product rounds differently from one place of a block to another, on some processors even for equal vectors. So a few
more than k are found by it, and the score of each of those is computed again, term by term: ties go to the lower row,
and no bit of an answer depends on the block size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from recsys_cl.bags import Bags
from recsys_cl.machine import count_cores

ScoreBlock = Callable[[int, int], NDArray[np.float32]]
"""(start, stop) -> scores [stop - start, n] of these queries; the caller may overwrite them. Called from many threads.
A score of -inf means "not to be found"; NaN is not allowed."""

_GROUPS_PER_NEIGHBOR = 8  # some 6 % more than k candidates are then left to sort
_CACHE_BYTES = 1 << 20  # of a core (L2): a block that fits in it is read twice for the price of once
_SPARE = 8  # candidates beyond k that rounding may bring among the k best
_RESCORED_FLOATS = 1 << 22  # vectors held at a time to score candidates again: 16 MiB
_LEAST_COPIED_ROWS = 16
_LEAST_CACHED_ROWS, _LONG_ROWS = 32, 256  # a product over fewer rows spends its time fetching candidates


@dataclass(frozen=True)
class Neighbors:
    """rows [m, k] int64, best first, -1 where fewer than k exist; scores [m, k] float32, -inf there."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.rows.shape != self.scores.shape or self.rows.ndim != 2:
            raise ValueError(f"rows {self.rows.shape} and scores {self.scores.shape} do not belong together")


def search_exact(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    k: int,
    seen: Bags | None = None,
    block_mib: int = 256,
    allowed: NDArray[np.bool_] | None = None,
) -> Neighbors:
    """The k candidates with the largest dot product for each query; queries [m, dim], candidates [n, dim].

    seen: a bag for each query, whose items are left out. allowed [n]: the candidates that may be found, None for all.
    At most block_mib MiB of scores are held at a time. Raises ValueError where shapes do not fit or a vector is not
    finite.
    """
    queries, candidates = _check_vectors(queries, "queries"), _check_vectors(candidates, "candidates")
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(f"queries {queries.shape} and candidates {candidates.shape} differ in their dimension")
    _check_k(k)
    by_dim = candidates.T  # [dim, n]
    if len(queries) >= _LEAST_COPIED_ROWS:  # else copying would take longer than the product
        by_dim = np.ascontiguousarray(by_dim)  # the product reads it a third faster
    refused = None if allowed is None else ~allowed
    held = threading.local()  # one buffer a thread: fresh memory for every block would cost a fifth of the time

    def score(start: int, stop: int) -> NDArray[np.float32]:
        if not hasattr(held, "scores") or len(held.scores) < stop - start:
            held.scores = np.empty((stop - start, len(candidates)), dtype=np.float32)
        scores: NDArray[np.float32] = np.matmul(queries[start:stop], by_dim, out=held.scores[: stop - start])
        if refused is not None:
            scores[:, refused] = -np.inf
        return scores

    def finish(found: Neighbors, start: int) -> Neighbors:
        return score_again(found, queries[start : start + len(found.rows)], candidates, k)

    return _search_blocks(score, (len(queries), len(candidates)), (k, _SPARE), seen, block_mib, finish)


def search_scores(
    score: ScoreBlock, shape: tuple[int, int], k: int, seen: Bags | None = None, block_mib: int = 256
) -> Neighbors:
    """The k best of n candidates for each of m queries, shape (m, n), under any score given block by block.

    seen and block_mib as in `search_exact`. Raises ValueError for a k below 1 or bags that are not one a query.
    """
    _check_k(k)
    return _search_blocks(score, shape, (k, 0), seen, block_mib, lambda found, _: found)


def _search_blocks(
    score: ScoreBlock,
    shape: tuple[int, int],
    wanted: tuple[int, int],
    seen: Bags | None,
    block_mib: int,
    finish: Callable[[Neighbors, int], Neighbors],
) -> Neighbors:
    """wanted: k, and how many beyond it are found at first; finish makes k of them, given a block and its start."""
    (m, n), (k, spare) = shape, wanted
    if seen is not None and len(seen) != m:
        raise ValueError(f"{len(seen)} bags of seen items for {m} queries")
    found = Neighbors(np.full((m, k), -1, dtype=np.int64), np.full((m, k), -np.inf, dtype=np.float32))
    if m == 0 or n == 0:
        return found
    n_threads = count_cores()
    block_rows = _choose_block_rows(n, block_mib, n_threads)

    def search_block(start: int) -> None:
        stop = min(start + block_rows, m)
        scores = np.ascontiguousarray(score(start, stop), dtype=np.float32)
        if scores.shape != (stop - start, n):
            raise ValueError(f"a block of scores is {scores.shape}, expected {(stop - start, n)}")
        if seen is not None:
            _mask_seen(scores, seen, start, stop)
        rows, best = _select_best(scores, min(k + spare, n))
        block = finish(Neighbors(np.where(best == -np.inf, -1, rows), best), start)
        found.rows[start:stop, : block.rows.shape[1]] = block.rows
        found.scores[start:stop, : block.rows.shape[1]] = block.scores

    starts = range(0, m, block_rows)
    if len(starts) == 1 or n_threads == 1:
        for start in starts:
            search_block(start)
    else:
        with _BLAS.hold_to_one_thread(), ThreadPoolExecutor(n_threads) as pool:
            for _ in pool.map(search_block, starts):
                pass
    return found


def score_again(found: Neighbors, queries: NDArray[np.float32], candidates: NDArray[np.float32], k: int) -> Neighbors:
    """The k best of found [m, k or more], each scored by a sum whose order depends on nothing but the dimension;
    -1 with score -inf stays behind. queries [m, dim], candidates [n, dim]."""
    rows, scores = found.rows, np.empty_like(found.scores)
    step = max(1, _RESCORED_FLOATS // max(1, rows.shape[1] * queries.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        vectors = candidates[rows[part]]  # [b, k + spare, dim]
        scores[part] = np.where(rows[part] >= 0, np.einsum("bd,bkd->bk", queries[part], vectors), -np.inf)
    order = np.lexsort((np.where(rows >= 0, rows, np.iinfo(np.int64).max), -scores), axis=1)[:, :k]
    return Neighbors(np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1))


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1")


def _check_vectors(vectors: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    if vectors.ndim != 2:
        raise ValueError(f"{name} have the shape {vectors.shape}, expected [n, dim]")
    # A sum in double precision is finite if and only if each number is: no mask to build.
    if not np.isfinite(vectors.sum(dtype=np.float64)):
        raise ValueError(f"{name} hold {np.count_nonzero(~np.isfinite(vectors))} numbers that are not finite")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _choose_block_rows(n: int, block_mib: int, n_threads: int) -> int:
    bytes_per_row = 4 * n
    cached = _CACHE_BYTES // bytes_per_row
    wanted = min(cached, _LONG_ROWS) if cached >= _LEAST_CACHED_ROWS else _LONG_ROWS
    return max(1, min(wanted, (block_mib << 20) // (bytes_per_row * n_threads)))


def _mask_seen(scores: NDArray[np.float32], seen: Bags, start: int, stop: int) -> None:
    offsets = seen.offsets[start : stop + 1]
    query_starts = np.arange(stop - start, dtype=np.int64) * scores.shape[1]
    places = np.repeat(query_starts, np.diff(offsets)) + seen.item_rows[offsets[0] : offsets[-1]]
    scores.reshape(-1)[places] = -np.inf


def _select_best(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows and scores [b, k] of the k largest of each line of scores [b, n], k <= n; ties to the lower row."""
    b, n = scores.shape
    least = _bound_kth_best(scores, k)  # [b, 1]
    hot = scores >= least
    if np.count_nonzero(hot) > 4 * k * b:
        # Many candidates share one score. Of those that tie with the bound only the first k of a line can matter.
        hot = scores == least
        hot &= np.cumsum(hot, axis=1, dtype=np.int32) <= k
        hot |= scores > least
    places = np.flatnonzero(hot)  # by line, then by row
    lines = places // n
    counts = np.bincount(lines, minlength=b)
    columns = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.full((b, counts.max()), -np.inf, dtype=np.float32)
    kept[lines, columns] = scores.reshape(-1)[places]
    rows = np.zeros(kept.shape, dtype=np.int64)
    rows[lines, columns] = places - lines * n
    order = np.argsort(-kept, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(kept, order, axis=1)


def _bound_kth_best(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """A score [b, 1] that at least k candidates of each line reach; tight where there are far more than k."""
    b, n = scores.shape
    n_groups = min(_GROUPS_PER_NEIGHBOR * k, n)
    depth = n // n_groups
    # Group g holds candidates g, g + n_groups, …: a maximum over whole lines, which numpy vectorises.
    tops = scores[:, : depth * n_groups].reshape(b, depth, n_groups).max(axis=1) if depth > 1 else scores
    kth = tops.shape[1] - k
    bound: NDArray[np.float32] = np.partition(tops, kth, axis=1)[:, kth : kth + 1]
    return bound


class _Blas:
    """Holds numpy's BLAS to one thread while blocks run in threads of ours; nested and concurrent searches count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_holders = 0

    @contextmanager
    def hold_to_one_thread(self) -> Iterator[None]:
        """One thread a product until the last of all that hold it leaves; then as it was."""
        with self._lock:
            if self._n_holders == 0:
                self._limits = ThreadpoolController().limit(limits=1, user_api="blas")
            self._n_holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_holders -= 1
                if self._n_holders == 0:
                    self._limits.restore_original_limits()


_BLAS = _Blas()
