"""The cache of pictures: each file decoded once, again where it or its pixels have changed, and bad ones counted."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from recsys_cl.errors import PictureError
from recsys_cl.files import TEMPORARY
from recsys_cl.picture_cache import PictureSet, cache_pictures
from recsys_cl.pictures import read_picture

SIDE = 16
FOLDER = "16x16x3-1"


def draw(seed: int, size: tuple[int, int] = (20, 20)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    (tmp_path / "in").mkdir()
    found = [tmp_path / "in" / f"p{n}.png" for n in range(5)]
    for n, path in enumerate(found):
        draw(n).save(path)
    return found


def read(paths: list[Path], tmp_path: Path, channels: int = 3) -> PictureSet:
    return cache_pictures(paths, tmp_path / "cache", SIDE, channels)


def take_all(found: PictureSet) -> NDArray[np.uint8]:
    return found.take(np.arange(len(found)))


def test_pictures_are_those_of_their_files_in_the_order_asked(paths: list[Path], tmp_path: Path) -> None:
    asked = [paths[3], paths[0], paths[3]]
    found = read(asked, tmp_path)
    assert found.kept.tolist() == [0, 1, 2]
    expected = np.stack([read_picture(path, SIDE, 3) for path in asked])
    assert np.array_equal(take_all(found), expected)
    assert found.n_decoded == 2


def test_only_what_has_changed_is_decoded_again(paths: list[Path], tmp_path: Path) -> None:
    before = read(paths, tmp_path)
    assert (before.n_decoded, read(paths, tmp_path).n_decoded) == (5, 0)
    draw(99).save(paths[2])
    os.utime(paths[2], ns=(1, 1))
    after = read(paths, tmp_path)
    assert after.n_decoded == 1
    same = [0, 1, 3, 4]
    assert np.array_equal(take_all(after)[same], take_all(before)[same])
    assert np.array_equal(take_all(after)[2], read_picture(paths[2], SIDE, 3))
    assert read(paths[:2], tmp_path).n_decoded == 0
    assert read(paths, tmp_path).n_decoded == 3  # the others had been dropped
    assert read(paths, tmp_path, channels=1).n_decoded == 5  # pixels of another shape
    assert read(paths, tmp_path).n_decoded == 0  # which lie beside the others


def test_another_picture_of_the_same_size_and_time_is_decoded_again(tmp_path: Path) -> None:
    for color in ("red", "blue"):
        Image.new("RGB", (9, 9), color).save(tmp_path / "p.bmp")
        os.utime(tmp_path / "p.bmp", ns=(0, 0))
        assert take_all(read([tmp_path / "p.bmp"], tmp_path))[0, 0, 0, 0] == (255 if color == "red" else 0)


def test_what_killed_processes_left_is_taken_away(paths: list[Path], tmp_path: Path) -> None:
    left = tmp_path / "cache" / f"{TEMPORARY}left"
    left.mkdir(parents=True)
    read(paths, tmp_path)
    assert not left.exists()


def test_a_thin_picture_is_seen(tmp_path: Path) -> None:
    for size in ((3000, 20), (1, 10_000)):
        Image.new("L", size).save(tmp_path / "thin.png")
        found = read_picture(tmp_path / "thin.png", 32, 1)[0]
        assert 32 <= (found == 0).sum() < 64


def test_a_flipped_byte_of_the_cache_is_found_and_decoded_again(paths: list[Path], tmp_path: Path) -> None:
    expected = take_all(read(paths, tmp_path)).copy()
    data = bytearray((tmp_path / "cache" / FOLDER / "pixels.npy").read_bytes())
    data[-10] ^= 1  # in the last picture
    (tmp_path / "cache" / FOLDER / "pixels.npy").write_bytes(data)
    found = read(paths, tmp_path)
    assert found.n_decoded == 1
    assert np.array_equal(take_all(found), expected)


@pytest.mark.parametrize("name", ["pixels.npy", "known.arrow"])
@pytest.mark.parametrize("damage", [b"", b"nothing of the kind", None])
def test_a_broken_cache_is_made_anew(paths: list[Path], tmp_path: Path, name: str, damage: bytes | None) -> None:
    expected = take_all(read(paths, tmp_path)).copy()
    path = tmp_path / "cache" / FOLDER / name
    path.write_bytes(path.read_bytes()[:300] if damage is None else damage)
    found = read(paths, tmp_path)
    assert found.n_decoded == 5
    assert np.array_equal(take_all(found), expected)


def make_bomb(side: int) -> bytes:
    """A PNG that says it has side × side pixels, and holds a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def test_every_bad_picture_is_refused_by_its_reason_and_the_others_go_on(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    whole = paths[0].read_bytes()
    bad = {
        "gone.png": (None, "missing"),
        "empty.png": (b"", "empty"),
        "page.jpg": (b"<html>404</html>", "not_a_picture"),
        "short.png": (whole[: len(whole) // 2], "damaged"),
        "other.jpg": (whole, "mislabeled"),
        "bomb.png": (make_bomb(60_000), "too_many_pixels"),
        "wide.png": (make_bomb(9_000), "too_many_pixels"),
        "large.png": (whole + b"\0" * (33 << 20), "too_many_bytes"),
    }
    for name, (data, _) in bad.items():
        if data is not None:
            (folder / name).write_bytes(data)
    (folder / "folder.png").mkdir()
    asked = [folder / name for name in bad] + [folder / "folder.png", *paths]
    found = read(asked, tmp_path)
    assert len(found) == 5
    assert found.refused["reason"].to_list() == [reason for _, reason in bad.values()] + ["not_a_picture"]
    assert found.refused["path"].to_list() == [str(path) for path in asked[:9]]
    assert np.array_equal(take_all(found), np.stack([read_picture(path, SIDE, 3) for path in paths]))
    written = (tmp_path / "cache" / FOLDER / "known.arrow").stat().st_ino
    again = read(asked, tmp_path)
    assert again.refused.equals(found.refused)
    assert (tmp_path / "cache" / FOLDER / "known.arrow").stat().st_ino == written  # nothing was written anew


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_whole_upright_and_on_white(tmp_path: Path, channels: int) -> None:
    """A wide picture, half transparent, is laid in the middle of a white square."""
    wide = np.zeros((10, 40, 4), dtype=np.uint8)
    wide[:, 20:, 3] = 255  # the right half is black, the left is not there
    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = read_picture(tmp_path / "wide.png", 40, channels)
    assert found.shape == (channels, 40, 40)
    assert (found[:, :14] == 255).all()
    assert (found[:, 26:] == 255).all()
    assert (found[:, 17:23, :18] == 255).all()
    assert (found[:, 17:23, 22:] == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_comes_out_as_it_looks(tmp_path: Path, orientation: int) -> None:
    large = Image.fromarray(np.repeat(np.repeat(np.array([[0, 80], [160, 240]], dtype=np.uint8), 200, 0), 200, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    large.save(tmp_path / "p.jpg", exif=exif, quality=95)
    found = read_picture(tmp_path / "p.jpg", 16, 1)[0].astype(int)
    corners = [found[2, 2], found[2, 13], found[13, 2], found[13, 13]]
    turned = {
        1: [0, 80, 160, 240], 2: [80, 0, 240, 160], 3: [240, 160, 80, 0], 4: [160, 240, 0, 80],
        5: [0, 160, 80, 240], 6: [160, 0, 240, 80], 7: [240, 80, 160, 0], 8: [80, 240, 0, 160],
    }  # fmt: skip
    assert corners == pytest.approx(turned[orientation], abs=6)


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:])
    found = read_picture(tmp_path / "p.gif", 16, 3)
    assert found[:, 8, 8].tolist() == [255, 0, 0]


def test_an_error_tells_its_reason(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as caught:
        read_picture(tmp_path / "none.png", 16, 3)
    assert caught.value.reason == "missing"


FILL = """
import sys
from pathlib import Path
from recsys_cl.picture_cache import cache_pictures
paths = sorted(Path(sys.argv[2]).iterdir())
n = cache_pictures(paths[:1], Path(sys.argv[1]), 64, 3).n_decoded
try:
    cache_pictures(paths, Path(sys.argv[1]), 64, 3)
except OSError as error:
    again = cache_pictures(paths[:1], Path(sys.argv[1]), 64, 3)
    print(n, error.errno, again.n_decoded, len(list(Path(sys.argv[1]).glob(".partial-*"))))
"""


def test_a_full_disk_is_an_error_and_what_was_decoded_stays(tmp_path: Path) -> None:
    """A real small disk: pixels that were written through a mapping would end the process with a signal."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare to mount a small disk")
    (tmp_path / "in").mkdir()
    (tmp_path / "disk").mkdir()
    for n in range(20):
        draw(n).save(tmp_path / "in" / f"p{n:02d}.png")
    mount = 'mount -t tmpfs -o size=128k tmpfs "$0" || exit 77; exec "$@"'
    child = [sys.executable, "-c", FILL, str(tmp_path / "disk"), str(tmp_path / "in")]
    command = ["unshare", "-m", "sh", "-c", mount, str(tmp_path / "disk"), *child]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    assert done.stdout == f"1 {errno.ENOSPC} 0 0\n", done.stderr
