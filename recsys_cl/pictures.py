"""Pictures of items: comes in a file that nobody vouches for, goes out a small PNG, within bounded time and memory."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from recsys_cl.errors import InputError

MOST_BYTES = 32 << 20
MOST_PIXELS = 64_000_000


def make_thumbnail(path: Path, side: int) -> bytes:
    """A PNG that fits into side × side pixels, upright; small pictures are enlarged by whole factors, unblurred.

    Raises InputError for a file that is missing, no picture, truncated, or larger than 32 MiB or 64 million pixels.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InputError(f"the picture {path} has {size} bytes", f"at most {MOST_BYTES}")
        with Image.open(path) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise InputError(f"the picture {path} has {opened.size} pixels", f"at most {MOST_PIXELS}")
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} is not a picture that can be read ({error})") from error
    factor = side // max(upright.size)
    if factor > 1:
        upright = upright.resize((upright.width * factor, upright.height * factor), Image.Resampling.NEAREST)
    upright.thumbnail((side, side))
    out = io.BytesIO()
    upright.save(out, "PNG", optimize=True)
    return out.getvalue()
