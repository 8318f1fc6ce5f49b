"""A packed file → its content in a file of ours, because a packed file can only be read from its start.

In:      a file of any name: its beginning says how it is packed, because web servers pack and unpack under
         the same name
Out:     the file itself where it is not packed
Errors:  Malformed   cut, damaged, or packed or encoded in a way that is not read, within what is packed, too
         TooMuch     it becomes so much more than it is that it was made to fill the disk
"""

import gzip
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

import zstandard

from ehr import limits
from ehr.errors import Malformed, TooMuch

SPOOL: Final = "spool"
"""In the folder of an import: what was fetched and unpacked for it."""
BLOCK_BYTES: Final = 1024 * 1024
ZSTD_WINDOW_BYTES_MAX: Final = 128 * 1024 * 1024
"""What zstd's own tool reads without being asked for more."""
ZSTD_PIECE_BYTES: Final = 2_048
"""A byte of zstd may stand for 32 KiB: what a piece becomes is held."""

_NOT_READ: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        b"BZh": "packed with bzip2; gzip and zstd are read",
        b"\xfd7zXZ\x00": "packed with xz; gzip and zstd are read",
        b"PK\x03\x04": "a ZIP archive; gzip and zstd are read",
        b"\xff\xfe": "UTF-16; NDJSON is UTF-8",
        b"\xfe\xff": "UTF-16; NDJSON is UTF-8",
        b"PAR1": "Parquet; NDJSON is read",
    }
)
_PACKED: Final[Mapping[str, bytes]] = MappingProxyType({"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"})
_TAR: Final = slice(257, 262), b"ustar"
"""An archive of files begins with the name of the first."""
_BEGINNING_BYTES: Final = 262
_SUFFIXES: Final = {".gz": "gzip", ".zst": "zstd"}


def unpacked(path: Path, target: Path, *, name: str | None = None) -> Path:
    """The file itself, or the target with what it holds. name: what people know the file by."""
    called = name or path.name
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING_BYTES)
        _refuse_other(called, beginning)
        kind = _kind(called, beginning)
        if kind is None:
            return path
        file.seek(0)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("wb") as plain:
                _READERS[kind](file, _Bounded(plain, _bytes_max(path), called))
        except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise Malformed(f"{called} is not a whole {kind} file") from error
    with target.open("rb") as plain:
        beginning = plain.read(_BEGINNING_BYTES)
    if _packing(beginning) is not None:
        raise Malformed(f"{called} is packed twice; pack it once")
    _refuse_other(called, beginning)
    return target


def _refuse_other(called: str, beginning: bytes) -> None:
    """Name what is no NDJSON as it can be told by its first bytes: read on, each line would be told to be bad."""
    place, mark = _TAR
    if beginning[place] == mark:
        raise Malformed(f"{called} is a tar archive; send the files that are in it")
    for known, what in _NOT_READ.items():
        if beginning.startswith(known):
            raise Malformed(f"{called} is {what}")


def _bytes_max(packed: Path) -> int:
    return max(packed.stat().st_size * limits.import_unpacked_times_max, limits.import_unpacked_bytes_free)


class _Bounded:
    """A file that takes no more than so many bytes."""

    def __init__(self, file: IO[bytes], bytes_max: int, name: str) -> None:
        self._file, self._left, self._name = file, bytes_max, name

    def write(self, content: bytes) -> int:
        self._left -= len(content)
        if self._left < 0:
            times = limits.import_unpacked_times_max
            raise TooMuch(f"{self._name} becomes more than {times} times its size; send it unpacked, or in more files")
        return self._file.write(content)


def _kind(name: str, beginning: bytes) -> str | None:
    """How a file is packed; what is named as packed may have been unpacked on its way."""
    packing = _packing(beginning)
    if packing is not None:
        return packing
    return None if beginning.lstrip().startswith((b"{", b"\xef\xbb\xbf")) else _SUFFIXES.get(Path(name).suffix)


def _packing(beginning: bytes) -> str | None:
    return next((kind for kind, known in _PACKED.items() if beginning.startswith(known)), None)


def _unpack_gzip(packed: IO[bytes], plain: _Bounded) -> None:
    with gzip.open(packed, "rb") as reader:
        shutil.copyfileobj(reader, plain, BLOCK_BYTES)


def _unpack_zstd(packed: IO[bytes], plain: _Bounded) -> None:
    """Frame after frame; the library's own stream ends without a word where a frame is cut."""
    frames = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)
    frame, rest = None, b""
    while piece := rest or packed.read(ZSTD_PIECE_BYTES):
        frame = frame or frames.decompressobj()
        plain.write(frame.decompress(piece))
        rest = frame.unused_data if frame.eof else b""
        frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError


_READERS: Final[Mapping[str, Callable[[IO[bytes], _Bounded], None]]] = {"gzip": _unpack_gzip, "zstd": _unpack_zstd}
