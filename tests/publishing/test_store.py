"""The store: one small file names what is live, it can name nothing but a release, and reading changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cl.errors import StoreError
from recsys_cl.publishing.live import list_releases
from recsys_cl.publishing.manifest import is_version
from recsys_cl.publishing.store import list_versions, read_current

Publish = Callable[..., str]


@pytest.fixture
def store(publish: Publish, tmp_path: Path) -> Path:
    publish(tmp_path / "s")
    return tmp_path / "s"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"../x",
        b"/etc",
        b".",
        b"..",
        b"CURRENT",
        b"20260101T000000Z-000000000000",
        b"20260101T000000Z-000000000000/../..",
        b"\xff\xfe\x00",
        b"a" * 10_000,
    ],
)
def test_a_current_that_names_no_release_is_refused(store: Path, content: bytes) -> None:
    (store / "releases" / "CURRENT").write_bytes(content)
    with pytest.raises(StoreError, match="CURRENT"):
        read_current(store)


def test_a_release_name_with_more_behind_it_is_refused(store: Path) -> None:
    current = store / "releases" / "CURRENT"
    name = current.read_text()
    for text in (f"{name}\n\n", f" {name}", f"{name}/", f"{name}/../{name}", f"{name}\0"):
        current.write_text(text)
        with pytest.raises(StoreError, match="CURRENT"):
            read_current(store)
    current.write_text(f"{name}\n")  # as an editor leaves it
    assert read_current(store) == name


def test_a_current_that_is_no_regular_file_is_refused(store: Path) -> None:
    current = store / "releases" / "CURRENT"
    name = current.read_text()
    current.unlink()
    current.mkdir()
    with pytest.raises(StoreError, match="not a regular file"):
        read_current(store)
    current.rmdir()
    current.symlink_to(store / "releases" / name)
    with pytest.raises(StoreError, match="not a regular file"):
        read_current(store)


def test_a_release_that_is_a_link_is_refused(store: Path, tmp_path: Path) -> None:
    folder = store / "releases" / read_current(store)
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="CURRENT"):
        read_current(store)
    assert list_versions(store) == []


@pytest.mark.parametrize("make", [None, [], ["other"], ["runs"], ["releases"], ["runs", "releases"]])
@pytest.mark.parametrize("read", [read_current, list_versions, list_releases])
def test_reading_makes_nothing(tmp_path: Path, make: list[str] | None, read: Callable[[Path], object]) -> None:
    store = tmp_path / "s"
    for name in make or []:
        (store / name).mkdir(parents=True)
    if make == []:
        store.mkdir()
    before = sorted(tmp_path.rglob("*"))
    if read is read_current or not (store / "releases").exists():
        with pytest.raises(StoreError, match="recsys-cl run"):
            read(store)
    else:
        assert read(store) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("x")
    with pytest.raises(StoreError, match="is not a store"):
        read_current(tmp_path / "s")


@given(st.text())
def test_no_text_with_a_separator_is_a_release_name(text: str) -> None:
    for name in (text, f"20260101T000000Z-{text}", f"20260101T000000Z-00000000000{text}"):
        if is_version(name):
            assert len(name) == 29
            assert name.isascii()
            assert name.isalnum() or name.replace("-", "", 1).isalnum()
