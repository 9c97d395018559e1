"""Successors: which releases need one, in what order, and under which name, whoever makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from recsys_cl.errors import SealError
from recsys_cl.publishing import erasure
from recsys_cl.publishing.erasure import find_affected, stage_successor
from recsys_cl.publishing.parts import ARRAYS, check_contents, read_parts
from recsys_cl.publishing.release import publish_release
from recsys_cl.publishing.seal import find_damages, read_manifest
from recsys_cl.publishing.store import list_versions
from recsys_cl.publishing.upkeep import roll_back

Publish = Callable[..., str]


def publish_of(small: ModuleType, store: Path, folder: Path, n_users: int) -> str:
    world = small.World(seed=n_users, n_users=n_users)
    return publish_release(small.make_parts(folder / str(n_users), world), small.make_facts(world), store)


def test_those_that_hold_a_user_and_those_that_follow_them_parents_first(
    small_release: ModuleType, tmp_path: Path
) -> None:
    store = tmp_path / "s"
    first, holding, follower = (publish_of(small_release, store, tmp_path, n) for n in (10, 20, 11))
    roll_back(store, first)
    other = publish_of(small_release, store, tmp_path, 12)  # follows the first one, which holds nobody
    assert list(find_affected(store, pl.Series(["u15", "u16"])).items()) == [(holding, 2), (follower, 0)]
    found = list(find_affected(store, pl.Series(["u11"])))
    assert found.index(holding) < found.index(follower)
    assert find_affected(store, pl.Series(["u99"])) == {}
    assert find_affected(store, pl.Series(["u11"])) == {holding: 1, follower: 0, other: 1}
    assert set(list_versions(store)) == {first, holding, follower, other}


def test_the_same_release_without_the_same_users_has_the_same_name(publish: Publish, tmp_path: Path) -> None:
    folder = tmp_path / "s" / "releases" / publish(tmp_path / "s")
    names = []
    for n, users in enumerate((["u3", "u7"], ["u7", "u3"], ["u3"])):
        staging = tmp_path / f"staging-{n}"
        staging.mkdir()
        names.append(stage_successor(folder, staging, pl.Series(users), {}))
        manifest = read_manifest(staging, names[-1])
        assert find_damages(staging, manifest, hashes=True) == []
        check_contents(read_parts(staging, manifest))
        assert manifest.n_users == 40 - len(users)
    assert names[0] == names[1] != names[2]
    assert {name[:16] for name in names} == {folder.name[:16]}


def test_nobody_may_be_left(publish: Publish, tmp_path: Path) -> None:
    folder = tmp_path / "s" / "releases" / publish(tmp_path / "s")
    staging = tmp_path / "staging"
    staging.mkdir()
    name = stage_successor(folder, staging, pl.Series([f"u{n}" for n in range(40)]), {})
    parts = read_parts(staging, read_manifest(staging, name))
    assert (len(parts.users), len(parts.seen), parts.user_vectors.shape) == (0, 0, (0, 8))


def test_a_damaged_release_is_not_sealed_anew(publish: Publish, tmp_path: Path) -> None:
    folder = tmp_path / "s" / "releases" / publish(tmp_path / "s")
    data = bytearray((folder / "seen_items.npy").read_bytes())
    data[-1] ^= 1
    (folder / "seen_items.npy").write_bytes(data)
    with pytest.raises(SealError, match=r"seen_items\.npy.*cannot be rewritten"):
        find_affected(tmp_path / "s", pl.Series(["u3"]))


def test_every_array_of_a_release_is_of_users_of_seen_items_or_of_neither(publish: Publish, tmp_path: Path) -> None:
    """An array with a row for each user, or each seen item, that nobody has listed would keep who is erased."""
    folder = tmp_path / "s" / "releases" / publish(tmp_path / "s")
    arrays = read_parts(folder, read_manifest(folder)).get_arrays()
    assert {name for name in ARRAYS if len(arrays[name]) == 40} == {*erasure.OF_USERS}
    n_seen = len(arrays["seen_items"])
    assert {name for name in ARRAYS if len(arrays[name]) == n_seen} == {*erasure.OF_SEEN}
    assert [name for name in ARRAYS if len(arrays[name]) == 41] == [erasure.OFFSETS]
