"""Pictures of items: comes in a file that nobody vouches for, goes out a small PNG or an array, within bounded time and
memory."""

from __future__ import annotations

import contextlib
import io
import stat
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from recsys_cl.errors import PictureError

MOST_BYTES = 32 << 20
MOST_PIXELS = 64_000_000
_LARGE_PIXELS = 4_000_000  # some 45 MiB while it is decoded, 11 bytes a pixel
_large = threading.Lock()  # larger ones are decoded one at a time, however many threads there are
# Pillow knows many more, among them EPS, for which it starts a program that runs what the file says.
_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_KINDS = {
    ".bmp": ("BMP",),
    ".gif": ("GIF",),
    ".jpeg": ("JPEG", "MPO"),
    ".jpg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".webp": ("WEBP",),
}
"""What a file of this name must hold to be read for training."""


def make_thumbnail(path: Path, side: int) -> bytes:
    """A PNG that fits into side × side pixels, upright, what is transparent white; small pictures are enlarged by whole
    factors, unblurred.

    Raises PictureError for a file that is missing, no picture, truncated, or larger than 32 MiB or 64 million pixels.
    """
    upright = _read_upright(path)
    factor = side // max(upright.size)
    if factor > 1:
        upright = upright.resize((upright.width * factor, upright.height * factor), Image.Resampling.NEAREST)
    upright.thumbnail((side, side))
    out = io.BytesIO()
    _lay_on_white(upright).save(out, "PNG", optimize=True)
    return out.getvalue()


def read_picture(source: Path | bytes, side: int, channels: int, most_pixels: int = MOST_PIXELS) -> NDArray[np.uint8]:
    """The picture [channels, side, side], gray (1) or red, green and blue (3): whole and upright, in the middle of a
    white square where it is none; what is transparent is white; of an animation the first frame.

    source: a file, or what is in one. Memory: 11 bytes a pixel, of a JPEG those of a smaller decoding; over 4 million
    pixels one at a time. Raises PictureError as `make_thumbnail`, for one of more than most_pixels, and for a file
    that holds another kind of picture than its name says.
    """
    upright = _read_upright(source, 2 * side, honest=True, most_pixels=most_pixels)
    upright = _lay_on_white(upright).convert("L" if channels == 1 else "RGB")
    width, height = (max(1, round(side * length / max(upright.size))) for length in upright.size)  # however thin
    square = Image.new(upright.mode, (side, side), "white")
    square.paste(
        upright.resize((width, height), Image.Resampling.BILINEAR), ((side - width) // 2, (side - height) // 2)
    )
    pixels = np.asarray(square, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _read_upright(
    source: Path | bytes, least_side: int | None = None, honest: bool = False, most_pixels: int = MOST_PIXELS
) -> Image.Image:
    """Open, check, decode. least_side: a JPEG may come out smaller, but not below this; honest: the name must fit."""
    opened = False
    name = "upload" if isinstance(source, bytes) else str(source)
    try:
        _check_size(source, name)
        Image.init()
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(stream, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            opened = True
            if image.width * image.height > most_pixels:
                raise PictureError(
                    "too_many_pixels", f"the picture {name} has {image.size} pixels", f"at most {most_pixels}"
                )
            expected = None if isinstance(source, bytes) else _KINDS.get(source.suffix.lower())
            if honest and expected and image.format not in expected:
                raise PictureError(
                    "mislabeled", f"the picture {name} is a {image.format}", f"a {expected[0]}, as it is named"
                )
            if least_side is not None:
                image.draft(None, (least_side, least_side))
            with _large if image.width * image.height > _LARGE_PIXELS else contextlib.nullcontext():
                return _convert(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except Exception as error:  # a decoder raises whatever it stumbles over: EOFError, struct.error, RuntimeError …
        if isinstance(error, FileNotFoundError):
            reason = "missing"
        elif isinstance(error, Image.DecompressionBombError):
            reason = "too_many_pixels"
        else:
            reason = "damaged" if opened else "not_a_picture"
        raise PictureError(reason, f"{name} is not a picture that can be read ({error})") from error


def _check_size(source: Path | bytes, name: str) -> None:
    if isinstance(source, bytes):
        size = len(source)
    else:
        info = source.stat()
        if not stat.S_ISREG(info.st_mode):
            raise PictureError("not_a_picture", f"{name} is not a picture", "a regular file")
        size = info.st_size
    if not size:
        raise PictureError("empty", f"{name} is not a picture: it has no byte", "a picture")
    if size > MOST_BYTES:
        raise PictureError("too_many_bytes", f"the picture {name} has {size} bytes", f"at most {MOST_BYTES}")


def _convert(image: Image.Image) -> Image.Image:
    """The picture as RGB, as RGBA where parts are transparent; 16 bits a pixel become 8, where Pillow would clip."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _lay_on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
