"""Pictures of every common kind come out small, upright and as they look; anything else is one clear error."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image

from recsys_cl import pictures
from recsys_cl.errors import InputError, PictureError
from recsys_cl.pictures import make_thumbnail, read_picture

SIDE = 48
RAMP = np.linspace(0, 255, SIDE).astype(np.uint8)


def draw() -> Image.Image:
    """Red grows to the right, green grows downwards: every turn and mirror image is another picture."""
    red = np.broadcast_to(RAMP, (SIDE, SIDE))
    return Image.fromarray(np.stack([red, red.T, np.full((SIDE, SIDE), 90, np.uint8)], axis=2))


def shrink(path: Path, side: int = SIDE) -> NDArray[np.int64]:
    with Image.open(io.BytesIO(make_thumbnail(path, side))) as found:
        assert (found.format, found.mode) == ("PNG", "RGB")
        assert max(found.size) <= side
        return np.asarray(found).astype(np.int64)


def assert_alike(found: NDArray[np.int64], wanted: Image.Image, most: float = 12) -> None:
    expected = np.asarray(wanted.convert("RGB")).astype(np.int64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < most


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF"])
def test_every_common_form_is_read(tmp_path: Path, form: str) -> None:
    draw().save(tmp_path / "p", form)
    assert_alike(shrink(tmp_path / "p"), draw())


@pytest.mark.parametrize(("mode", "form"), [("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("P", "GIF")])
def test_every_mode_comes_out_as_it_looks(tmp_path: Path, mode: str, form: str) -> None:
    picture = draw().convert(mode)
    picture.save(tmp_path / "p", form)
    assert_alike(shrink(tmp_path / "p"), picture)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_a_pixel_are_scaled_not_clipped(tmp_path: Path, form: str) -> None:
    gray = np.linspace(0, 65_535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    Image.fromarray(gray).save(tmp_path / "p", form)
    found = shrink(tmp_path / "p")
    assert np.abs(found - (gray >> 8)[:, :, None]).max() <= 1


@pytest.mark.parametrize(("mode", "form"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str, form: str) -> None:
    picture = draw().convert(mode)
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[:, : SIDE // 2] = 0
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "p", form)
    found = shrink(tmp_path / "p")
    assert (found[:, : SIDE // 2 - 1] > 250).all()
    seen = np.asarray(draw().convert("RGB" if mode == "RGBA" else "L").convert("RGB")).astype(np.int64)
    assert np.abs(found - seen)[:, SIDE // 2 + 1 :].mean() < 12


def test_a_palette_with_a_transparent_color_is_white_there(tmp_path: Path) -> None:
    picture = Image.fromarray(np.repeat([[0, 1]], 2, axis=0).astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 200, 0, 0])
    picture.save(tmp_path / "p", "PNG", transparency=0)
    assert shrink(tmp_path / "p", 2)[0].tolist() == [[255, 255, 255], [200, 0, 0]]


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_as_its_camera_was(tmp_path: Path, turn: int) -> None:
    transposed = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # stored turned left, to be turned right
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = draw().crop((0, 0, SIDE, SIDE - 8))
    wanted = stored
    if turn in transposed:
        stored = stored.transpose(transposed[turn])
    exif = Image.Exif()
    exif[0x112] = turn
    stored.save(tmp_path / "p.jpg", exif=exif, quality=95)
    assert_alike(shrink(tmp_path / "p.jpg"), wanted, 4)


def test_small_pictures_grow_by_whole_factors_and_large_ones_fit(tmp_path: Path) -> None:
    tiny = Image.fromarray(np.array([[0, 255, 7]], np.uint8))
    tiny.save(tmp_path / "p.png")
    assert shrink(tmp_path / "p.png", 10)[:, :, 0].tolist() == [[0, 0, 0, 255, 255, 255, 7, 7, 7]] * 3
    Image.new("L", (1000, 10)).save(tmp_path / "p.png")
    assert shrink(tmp_path / "p.png", 50).shape == (1, 50, 3)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """One that would take 40 GB: its header alone says so."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    for width, message in ((100_000, "not a picture"), (9_000, "81000000|9000, 9000")):
        header = struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
        data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
        with pytest.raises(InputError, match=message):
            make_thumbnail(tmp_path / "p.png", SIDE)


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    draw().save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    path = tmp_path / "p.jpg"
    for data in (b"", b"no picture", b"\x00" * 5000, whole[:20], whole[: len(whole) // 2], b"<svg></svg>"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"p\.jpg is not a picture"):
            make_thumbnail(path, SIDE)
    for other in (tmp_path / "missing.png", tmp_path, Path("a\0b"), Path("/dev/zero"), Path("https://x.example/a.png")):
        with pytest.raises(InputError, match="is not a picture"):
            make_thumbnail(other, SIDE)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.png")
    with pytest.raises(InputError, match="regular file"):
        make_thumbnail(tmp_path / "p.png", SIDE)


def test_no_form_is_read_that_runs_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For EPS, Pillow starts Ghostscript, here one that leaves a trace."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/trace\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    draw().save(tmp_path / "p.png", "EPS")
    with pytest.raises(InputError, match="is not a picture"):
        make_thumbnail(tmp_path / "p.png", SIDE)
    assert not (tmp_path / "trace").exists()


def test_a_file_beyond_the_bound_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw().save(tmp_path / "p.png")
    size = (tmp_path / "p.png").stat().st_size
    monkeypatch.setattr(pictures, "MOST_BYTES", size)
    make_thumbnail(tmp_path / "p.png", SIDE)
    monkeypatch.setattr(pictures, "MOST_BYTES", size - 1)
    with pytest.raises(InputError, match=f"has {size} bytes; expected at most {size - 1}"):
        make_thumbnail(tmp_path / "p.png", SIDE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "ICO", "AVIF"])
def test_damaged_bytes_give_a_picture_or_one_clear_error(tmp_path: Path, form: str) -> None:
    draw().save(tmp_path / "whole", form)
    whole, chance = (tmp_path / "whole").read_bytes(), random.Random(0)
    for _ in range(80):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(min(len(data), 300))] = chance.randrange(256)
        (tmp_path / "p").write_bytes(data)
        with contextlib.suppress(PictureError):
            assert shrink(tmp_path / "p").ndim == 3
        with contextlib.suppress(PictureError):
            assert read_picture(tmp_path / "p", 16, 3).shape == (3, 16, 16)


@pytest.mark.parametrize(("mode", "form"), [("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("CMYK", "JPEG"), ("P", "GIF")])
@pytest.mark.parametrize("size", [SIDE, 8])
def test_for_training_every_mode_comes_out_as_it_looks_too(tmp_path: Path, mode: str, form: str, size: int) -> None:
    large = draw().resize((400, 400)).convert(mode)
    large.save(tmp_path / "p", form)
    expected = large.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    assert_alike(read_picture(tmp_path / "p", size, 3).transpose(1, 2, 0).astype(np.int64), expected)


def test_for_training_sixteen_bits_are_scaled_too(tmp_path: Path) -> None:
    gray = np.linspace(0, 65_535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    Image.fromarray(gray).save(tmp_path / "p.png")
    found = read_picture(tmp_path / "p.png", SIDE, 1)[0].astype(np.int64)
    assert np.abs(found - (gray >> 8)).max() <= 1
