"""Arrow files that nobody vouches for: comes in a path, goes out a table that was mapped, or one error.

Arrow believes a file: a batch may be compressed, and then takes whatever memory it claims; an offset may lead anywhere;
a list of nulls has no byte, and a billion elements. So only what our own writer writes is let through: one batch, not
compressed, of texts and numbers, whose offsets lie in the file.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa

_TAIL = struct.calcsize("<i6s")  # the length of the footer, and the magic
_HEADER, _COMPRESSION = 2, 3  # fields of a message, and of a record batch in it (Message.fbs)
_DICTIONARIES, _BATCHES = 2, 3  # fields of a footer (File.fbs)
_LEGACY_PREFIX, _PREFIX = 4, 8  # before the message: its length, or a mark and its length


def map_table(path: Path) -> pa.Table:
    """The table in an Arrow file, mapped: no more memory than its bytes, and every text in it valid.

    Raises ValueError (as Arrow's own errors are) or OSError where it cannot be used.
    """
    with pa.memory_map(str(path)) as file:
        data = file.read_buffer()
    reader = pa.ipc.open_file(data)  # checks the structure of the footer itself
    odd = [f"{field.name}: {field.type}" for field in reader.schema if not _is_plain(field.type)]
    if odd:
        raise pa.ArrowInvalid(f"columns of {', '.join(odd[:3])}")
    try:
        _check_batches(memoryview(data).cast("B"))
    except (struct.error, IndexError) as error:
        raise pa.ArrowInvalid(f"its footer leads nowhere ({error})") from error
    table = reader.read_all()
    table.validate(full=True)
    if table.nbytes > len(data):  # columns that share their bytes would not once they are copied
        raise pa.ArrowInvalid(f"it claims {table.nbytes} bytes, and has {len(data)}")
    return table


def _is_plain(kind: pa.DataType) -> bool:
    known = pa.types
    checks = (known.is_large_string, known.is_string, known.is_integer, known.is_floating, known.is_null)
    return any(check(kind) for check in checks)


def _check_batches(data: memoryview) -> None:
    """Raise ArrowInvalid for dictionaries, more than one batch, or one that is compressed."""
    (length,) = struct.unpack_from("<i", data, len(data) - _TAIL)
    footer = data[len(data) - _TAIL - length : len(data) - _TAIL]
    root = _follow(footer, 0)
    if _list_blocks(footer, root, _DICTIONARIES):
        raise pa.ArrowInvalid("it has dictionaries")
    blocks = _list_blocks(footer, root, _BATCHES)
    if len(blocks) > 1:
        raise pa.ArrowInvalid(f"it has {len(blocks)} batches, at most one is read")
    for start in blocks:
        message = data[start:]
        message = message[_PREFIX if bytes(message[:4]) == b"\xff\xff\xff\xff" else _LEGACY_PREFIX :]
        header = _find_field(message, _follow(message, 0), _HEADER)
        if header and _find_field(message, _follow(message, header), _COMPRESSION):
            raise pa.ArrowInvalid("it is compressed")


def _list_blocks(footer: memoryview, root: int, field: int) -> list[int]:
    """Where the messages of one kind begin in the file."""
    place = _find_field(footer, root, field)
    if not place:
        return []
    vector = _follow(footer, place)
    (n,) = struct.unpack_from("<I", footer, vector)
    if 24 * n > len(footer):
        raise IndexError(f"{n} blocks")
    starts = [struct.unpack_from("<q", footer, vector + 4 + 24 * block)[0] for block in range(n)]
    if any(start < 0 for start in starts):
        raise IndexError(f"blocks at {starts}")
    return starts


def _follow(data: memoryview, place: int) -> int:
    """Where the offset at `place` leads."""
    return place + int(struct.unpack_from("<I", data, place)[0])


def _find_field(data: memoryview, table: int, field: int) -> int:
    """Where a field of a table of flatbuffers lies, 0 where it is not there."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    entry = 4 + 2 * field
    offset = struct.unpack_from("<H", data, vtable + entry)[0] if entry < size else 0
    return table + int(offset) if offset else 0
