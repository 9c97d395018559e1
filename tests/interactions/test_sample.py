"""The tracked sample is what `write_sample` makes, and nothing but a sample is ever written over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recsys_cl.errors import InputError
from recsys_cl.files import read_json
from recsys_cl.interactions.digits import N_STYLES
from recsys_cl.interactions.sample import describe_items, describe_users, write_sample
from recsys_cl.interactions.world import World, WorldConfig

TRACKED = Path(__file__).parents[2] / "data" / "sample"
TINY = WorldConfig(n_users=20, n_items=12, n_events=300, seed=5, days=10)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    folder = tmp_path_factory.mktemp("sample")
    return folder, write_sample(folder, WorldConfig())


@pytest.mark.parametrize("name", ["events.csv", "items.csv", "users.csv", "sample.json"])
def test_the_tracked_files_are_what_the_defaults_make(name: str, made: tuple[Path, World]) -> None:
    assert (made[0] / name).read_bytes() == (TRACKED / name).read_bytes()


def test_the_tracked_pictures_are_what_the_defaults_make(made: tuple[Path, World]) -> None:
    ours, theirs = ({p.name: p for p in (folder / "pictures").iterdir()} for folder in (made[0], TRACKED))
    assert ours.keys() == theirs.keys()
    for name, path in ours.items():
        with Image.open(path) as a, Image.open(theirs[name]) as b:
            assert (a.mode, a.size) == (b.mode, b.size) == ("L", (32, 32))
            assert np.array_equal(np.asarray(a), np.asarray(b)), name


def test_the_tracked_sample_is_small() -> None:
    assert sum(path.stat().st_size for path in TRACKED.rglob("*") if path.is_file()) < 4_000_000


def test_items_have_unique_titles_and_pictures_that_exist(made: tuple[Path, World]) -> None:
    folder, world = made
    items = pl.read_csv(folder / "items.csv")
    assert items["item_id"].to_list() == world.item_ids.to_list()
    assert items["title"].is_unique().all()
    assert all((folder / path).is_file() for path in items["image_path"])
    assert items.null_count().sum_horizontal().sum() == 0


def test_catalogs_beyond_the_pictures_share_them(tmp_path: Path) -> None:
    world = write_sample(tmp_path / "s", WorldConfig(n_users=10, n_items=4_000, n_events=100, days=5))
    items = pl.read_csv(tmp_path / "s" / "items.csv")
    assert items["image_path"].n_unique() == 1_797 == len(list((tmp_path / "s" / "pictures").iterdir()))
    assert items["title"].is_unique().all()
    by_picture = pl.DataFrame({"picture": items["image_path"], "topic": world.item_topics})
    assert by_picture.group_by("picture").agg(pl.col("topic").n_unique())["topic"].max() == 1


def test_one_attribute_of_a_user_is_weakly_tied_to_taste_and_the_others_are_not(made: tuple[Path, World]) -> None:
    world = made[1]
    main = world.tastes[np.arange(world.config.n_users), np.argmax(world.first, axis=1)] % N_STYLES >= 2
    users = describe_users(world).with_columns(slanted=main)
    shares = dict(users.group_by("slanted").agg((pl.col("hand") == "left").mean()).iter_rows())
    assert 0.15 < shares[True] - shares[False] < 0.35
    by_country = users.group_by("country").agg(pl.col("slanted").mean(), pl.len())
    z = (by_country["slanted"] - main.mean()) / (0.25 / by_country["len"]).sqrt()
    assert z.abs().max() < 4


def test_material_tells_nothing(made: tuple[Path, World]) -> None:
    items = describe_items(made[1]).with_columns(base=made[1].item_base)
    ranks = items.with_columns(pl.col("base").rank()).group_by("material").agg(pl.col("base").mean(), pl.len())
    z = (ranks["base"] - 500.5) / (1000**2 / 12 / ranks["len"]).sqrt()
    assert z.abs().max() < 4


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "events.csv"
    mine.write_text("mine")
    with pytest.raises(InputError, match=r"holds events\.csv; expected an empty folder"):
        write_sample(tmp_path, TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["events.csv"]
    assert mine.read_text() == "mine"
    with pytest.raises(InputError, match="is a file"):
        write_sample(mine, TINY)


def test_a_sample_may_be_written_over_and_what_lies_beside_it_stays(tmp_path: Path) -> None:
    write_sample(tmp_path, WorldConfig(n_users=9, n_items=30, n_events=50, days=3))
    (tmp_path / "config.toml").write_text("mine")
    write_sample(tmp_path, TINY)
    write_sample(tmp_path / "fresh", TINY)
    for path in (tmp_path / "fresh").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(tmp_path / "fresh")).read_bytes()
    assert len(list((tmp_path / "pictures").iterdir())) == 12
    assert (tmp_path / "config.toml").read_text() == "mine"
    assert read_json(tmp_path / "sample.json")["n_items"] == 12


def test_a_broken_off_sample_leaves_no_half_file_and_can_be_written_again(tmp_path: Path) -> None:
    def stop(what: str, done: float, total: float, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path, TINY, stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["items.csv", "pictures", "sample.json", "users.csv"]
    (tmp_path / ".partial-left").write_text("by a killed process")
    write_sample(tmp_path, TINY)
    assert len((tmp_path / "events.csv").read_text().splitlines()) == TINY.n_events + 1


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []
    write_sample(tmp_path, TINY, lambda what, done, total, note: seen.append((done, total)))
    assert seen[-1] == (300, 300)


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be"):
        write_sample(tmp_path / "file" / "below", TINY)
