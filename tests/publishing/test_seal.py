"""The seal: whatever is changed in a release, its part is named and nothing of it is used."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_cl.errors import SealError, StoreError
from recsys_cl.publishing import seal
from recsys_cl.publishing.manifest import name_version
from recsys_cl.publishing.seal import check_seal, find_damages, read_manifest

Publish = Callable[..., str]

FILES = (
    "candidate_tower.onnx",
    "catalog.arrow",
    "evaluated_items.npy",
    "evaluated_seen.npy",
    "evaluated_users.npy",
    "evaluation.json",
    "index.faiss",
    "item_bags.npy",
    "item_embeddings.npy",
    "model_card.md",
    "query_tower.onnx",
    "report.html",
    "rotation.npy",
    "seen_items.npy",
    "seen_offsets.npy",
    "towers.safetensors",
    "user_embeddings.npy",
    "users.arrow",
)


@pytest.fixture
def folder(publish: Publish, tmp_path: Path) -> Path:
    """The folder of a release that this process has opened before."""
    path = tmp_path / "s" / "releases" / publish(tmp_path / "s")
    check_seal(path)
    return path


def check_named(folder: Path, part: str) -> None:
    with pytest.raises(SealError) as caught:
        check_seal(folder)
    assert caught.value.part == part
    assert part in str(caught.value)


def flip(path: Path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def test_these_are_all_the_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted((*FILES, "manifest.json"))


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_by_name(folder: Path, name: str) -> None:
    rng = random.Random(name)
    size = (folder / name).stat().st_size
    for place in {0, size - 1, rng.randrange(size), rng.randrange(size)}:
        bit = rng.randrange(8)
        flip(folder / name, place, bit)
        check_named(folder, name)
        flip(folder / name, place, bit)
        check_seal(folder)


def test_a_flipped_bit_of_the_manifest_is_refused_by_name(folder: Path) -> None:
    path = folder / "manifest.json"
    rng = random.Random(0)
    format_place = path.read_bytes().index(b'"format": 2') + len(b'"format": ')
    places = [format_place, *(rng.randrange(path.stat().st_size) for _ in range(200))]
    for place in places:
        bit = rng.randrange(8)
        flip(path, place, bit)
        with pytest.raises(StoreError, match=r"manifest\.json"):
            check_seal(folder)
        flip(path, place, bit)
    check_seal(folder)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_truncated_a_missing_and_an_empty_part_are_refused_by_name(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    for kept in (data[:-1], data[: len(data) // 2], b"", data + b"\0"):
        (folder / name).write_bytes(kept)
        check_named(folder, name)
    (folder / name).unlink()
    check_named(folder, name)
    (folder / name).mkdir()
    check_named(folder, name)


@pytest.mark.parametrize("name", ["extra.bin", ".partial-x", "nested"])
def test_a_part_too_many_is_refused_by_name(folder: Path, name: str) -> None:
    if name == "nested":
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(b"")
    check_named(folder, name)


def test_swapped_parts_are_refused_by_name(folder: Path) -> None:
    one, other = folder / "candidate_tower.onnx", folder / "towers.safetensors"
    first, second = one.read_bytes(), other.read_bytes()
    for size in (len(first), len(second)):  # of one size too
        one.write_bytes(second[:size].ljust(len(first), b" "))
        other.write_bytes(first[:size].ljust(len(second), b" "))
        check_named(folder, "candidate_tower.onnx")


def test_a_part_of_another_release_is_refused_by_name(folder: Path, publish: Publish, tmp_path: Path) -> None:
    other = tmp_path / "s" / "releases" / publish(tmp_path / "s", seed=1)
    for name in ("user_embeddings.npy", "item_bags.npy"):
        data = (folder / name).read_bytes()
        shutil.copyfile(other / name, folder / name)
        assert (folder / name).stat().st_size == len(data)
        check_named(folder, name)
        (folder / name).write_bytes(data)
    shutil.copyfile(other / "manifest.json", folder / "manifest.json")
    check_named(folder, "manifest.json")


@pytest.mark.parametrize("name", ["index.faiss", "manifest.json"])
def test_a_link_instead_of_a_file_is_refused_by_name(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    check_named(folder, name)


def test_all_damages_are_found_at_once(folder: Path) -> None:
    manifest = read_manifest(folder)
    flip(folder / "users.arrow", 100, 0)
    (folder / "index.faiss").unlink()
    assert [damage.part for damage in find_damages(folder, manifest, hashes=True)] == ["index.faiss", "users.arrow"]


def test_hashes_are_checked_once_in_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(seal, "hash_file", lambda path: hashed.append(path) or "0" * 64)
    check_seal(folder)
    assert hashed == []
    os.utime(folder / "index.faiss", ns=(1, 1))  # touched: looked at again
    with pytest.raises(SealError):
        check_seal(folder)
    assert len(hashed) == len(FILES)


@pytest.mark.parametrize(
    ("number", "remedy"), [(1, "recsys-cl publish --store DIR --run run-1"), (3, "pip install --upgrade")]
)
def test_another_format_is_refused_with_what_converts_it(folder: Path, number: int, remedy: str) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    with pytest.raises(StoreError, match=rf"has the format {number}.*format 2") as caught:
        check_seal(folder)
    assert remedy in str(caught.value)
    assert not isinstance(caught.value, SealError)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": true}', "[" * 100_000, '{"format": 2}', "\x00"])
def test_what_is_no_manifest_is_refused_by_name(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json"):
        check_seal(folder)


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: would exhaust memory
    check_named(folder, "manifest.json")


def test_the_name_is_the_time_and_the_hash_of_the_manifest(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert name_version(manifest) == folder.name
    assert name_version(manifest.model_copy(update={"n_events": 7})) != folder.name
    renamed = folder.rename(folder.with_name(folder.name[:-1] + ("0" if folder.name[-1] != "0" else "1")))
    check_named(renamed, "manifest.json")
