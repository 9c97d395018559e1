"""Text files as blocks of whole lines: comes in as a path (plain, .gz, .zst), goes out as valid UTF-8, line by line.

Lines that are not UTF-8 are taken out (an empty line stays in their place, so that line numbers hold) and kept beside
the block. Memory: one block, or one line where that is longer, up to `MOST_LINE_BYTES`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from recsys_cl.errors import LogError

MOST_LINE_BYTES = 256 << 20
_CODECS = {".gz": "gzip", ".zst": "zstd"}
_BOM = b"\xef\xbb\xbf"


def split_codec(path: Path) -> tuple[str, str | None]:
    """The extension of a path in lower case without its compression, and the codec or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    codec = _CODECS.get(suffixes[-1]) if suffixes else None
    if codec:
        suffixes.pop()
    return (suffixes[-1] if suffixes else ""), codec


@dataclass
class TextFile:
    """An open text file. `broken` collects (line, text) of lines that are not UTF-8; `line` is the next line, from 1.

    `done` is how many bytes of the file, compressed where it is, have been read.
    """

    path: Path
    block_bytes: int
    line: int = 1
    broken: list[tuple[int, str]] = field(default_factory=list)
    _raw: Any = None
    _stream: Any = None
    _rest: bytes = b""

    def __post_init__(self) -> None:
        _, codec = split_codec(self.path)
        with _explain(self.path):
            self._raw = pa.OSFile(str(self.path))
            self._stream = pa.CompressedInputStream(self._raw, codec) if codec else self._raw
            start = self._stream.read(self.block_bytes)
        self._rest = start[len(_BOM) :] if start.startswith(_BOM) else start

    @property
    def done(self) -> int:
        """Bytes of the file on disk that have been read."""
        return int(self._raw.tell())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self._raw.close()

    def read_block(self) -> bytes:
        """The next whole lines, at least one, some `block_bytes` long; empty at the end. Raises LogError."""
        parts = [self._rest]
        n_bytes, more = len(self._rest), True
        while n_bytes < self.block_bytes or (more and b"\n" not in parts[-1]):
            with _explain(self.path):
                chunk = self._stream.read(self.block_bytes)
            more = bool(chunk)
            if not more:
                break
            parts.append(chunk)
            n_bytes += len(chunk)
            if n_bytes > MOST_LINE_BYTES and not any(b"\n" in part for part in parts):
                raise LogError(
                    f"line {self.line} of {self.path} is longer than {MOST_LINE_BYTES >> 20} MiB",
                    "a text file with one event a line",
                )
        data = b"".join(parts)
        end = data.rfind(b"\n") + 1 if more else len(data)
        block, self._rest = data[:end], data[end:]
        block = self._clean(block)
        self.line += block.count(b"\n")
        return block

    def take_broken(self) -> list[tuple[int, str]]:
        """Hand over, and forget, the lines found so far that are not UTF-8."""
        broken, self.broken = self.broken, []
        return broken

    def skip_lines(self, n: int) -> None:
        """Leave out the next `n` lines, and what is broken in them."""
        target = self.line + n
        while self.line < target:
            start, block = self.line, self.read_block()
            if not block:
                break
            if self.line > target:
                places = 0
                for _ in range(target - start):
                    places = block.index(b"\n", places) + 1
                self._rest = block[places:] + self._rest
                self.line = target
        self.broken = [(line, content) for line, content in self.broken if line >= target]

    def _clean(self, block: bytes) -> bytes:
        try:
            block.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return block
        lines = block.split(b"\n")
        for place, content in enumerate(lines):
            try:
                content.decode("utf-8")
            except UnicodeDecodeError:
                self.broken.append((self.line + place, content.decode("utf-8", "backslashreplace").rstrip("\r")))
                lines[place] = b""
        return b"\n".join(lines)


class BlockStream(io.RawIOBase):
    """The blocks of a text file as one stream of bytes, for parsers that want a file."""

    def __init__(self, text: TextFile) -> None:
        super().__init__()
        self._text, self._block, self._place = text, b"", 0

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; empty at the end."""
        if self._place >= len(self._block):
            self._block, self._place = self._text.read_block(), 0
        end = len(self._block) if size < 0 else self._place + size
        part = self._block[self._place : end]
        self._place += len(part)
        return part


def read_start(path: Path, n_bytes: int = 1 << 20) -> bytes:
    """The first whole lines of a text file, valid UTF-8. Raises LogError where it is empty, binary or unreadable."""
    with _explain(path):
        raw = pa.OSFile(str(path))
        _, codec = split_codec(path)
        start: bytes = (pa.CompressedInputStream(raw, codec) if codec else raw).read(4096)
        raw.close()
    if not start:
        raise LogError(f"{path} is empty", "a header and rows")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LogError(f"{path} is UTF-16 text", "UTF-8", f"convert it with: iconv -f UTF-16 -t UTF-8 {path.name}")
    if b"\0" in start or start.startswith((b"\x1f\x8b", b"PAR1")):
        raise LogError(
            f"{path} is not a text file", "text, or the extension of what it is: .parquet, .gz, .zst behind the name"
        )
    text = TextFile(path, n_bytes)
    try:
        block = text.read_block()
    finally:
        text.close()
    if text.broken and text.broken[0][0] == 1:
        raise LogError(f"the first line of {path} is not UTF-8: {text.broken[0][1][:200]!r}", "a UTF-8 text file")
    return block


def walk_blocks(text: TextFile) -> Iterator[tuple[int, bytes]]:
    """Each block with the number of its first line."""
    while True:
        line = text.line
        block = text.read_block()
        if not block:
            return
        yield line, block


class _explain:  # noqa: N801 - reads as a word in `with`
    """Turn an error of the file system or of decompression into a LogError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (OSError, pa.ArrowInvalid, EOFError)):
            raise LogError(f"{self._path} cannot be read ({error})", "a whole, readable file") from error
