"""The map: the directions in which items differ most, and colors of the most frequent values."""

from __future__ import annotations

import base64

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA

from recsys_cl.catalog import Catalog
from recsys_cl.errors import InputError
from recsys_cl.ids import IdMap
from recsys_cl.serving import plane
from recsys_cl.serving.plane import color_items, project_items


def test_points_are_the_principal_components_without_popularity(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(500, 6)) * [1, 5, 2, 9, 1, 100] + 3).astype(np.float32)
    monkeypatch.setattr(plane, "_BLOCK_ROWS", 64)
    found = project_items(vectors, 5)
    expected = PCA(2).fit_transform(vectors[:, :5].astype(np.float64))
    expected /= np.abs(expected).max()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, project_items(vectors, 5))


@pytest.mark.parametrize(("n", "dim"), [(1, 4), (5, 1), (3, 2)])
def test_few_items_or_floats_still_have_points(n: int, dim: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    points = project_items(vectors, None)
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()
    assert project_items(np.ones((4, 3), dtype=np.float32), None).tolist() == [[0, 0]] * 4


def test_frequent_values_have_a_color_and_the_others_share_one() -> None:
    values = [f"v{n}" for n in range(250) for _ in range(3 if n < 100 else 2 if n < 200 else 1)] + [None, None]
    ids = IdMap.build([f"{n:04}" for n in range(len(values))])
    catalog = Catalog.build(ids, pl.DataFrame({"item_id": ids.to_series(), "kind": values}))
    found = color_items(catalog, "kind")
    assert set(found["categories"]) == {f"v{n}" for n in range(200)}
    codes = np.frombuffer(base64.b64decode(found["codes"]), dtype=np.uint8)
    named = [None if code == 0 else "other" if code == 255 else found["categories"][code - 1] for code in codes]
    assert named == [v if v is None or int(v[1:]) < 200 else "other" for v in values]
    with pytest.raises(InputError, match="'kind'"):
        color_items(catalog, "color")
