"""Pictures of items: comes in a file that nobody vouches for, goes out a small PNG, within bounded time and memory."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from recsys_cl.errors import InputError

MOST_BYTES = 32 << 20
MOST_PIXELS = 64_000_000
# Pillow knows many more, among them EPS, for which it starts a program that runs what the file says.
_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")


def make_thumbnail(path: Path, side: int) -> bytes:
    """A PNG that fits into side × side pixels, upright, what is transparent white; small pictures are enlarged by whole
    factors, unblurred.

    Raises InputError for a file that is missing, no picture, truncated, or larger than 32 MiB or 64 million pixels.
    """
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise InputError(f"{path} is not a picture", "a regular file")
        if info.st_size > MOST_BYTES:
            raise InputError(f"the picture {path} has {info.st_size} bytes", f"at most {MOST_BYTES}")
        Image.init()
        with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise InputError(f"the picture {path} has {opened.size} pixels", f"at most {MOST_PIXELS}")
            upright = _convert(ImageOps.exif_transpose(opened))
    except InputError:
        raise
    except Exception as error:  # a decoder raises whatever it stumbles over: EOFError, struct.error, RuntimeError …
        raise InputError(f"{path} is not a picture that can be read ({error})") from error
    factor = side // max(upright.size)
    if factor > 1:
        upright = upright.resize((upright.width * factor, upright.height * factor), Image.Resampling.NEAREST)
    upright.thumbnail((side, side))
    if upright.mode == "RGBA":
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    out = io.BytesIO()
    upright.save(out, "PNG", optimize=True)
    return out.getvalue()


def _convert(image: Image.Image) -> Image.Image:
    """The picture as RGB, as RGBA where parts are transparent; 16 bits a pixel become 8, where Pillow would clip."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")
