"""Paths → parts of NDJSON files, bounded in bytes, each with the number of its first line; and parts → lines.

In:      files and folders; .ndjson and .jsonl, also .gz and .zst (unpacked into a spool folder, because a packed
         file can only be read from its start)
Limits:  a part ends with the first line that reaches import_chunk_bytes; a line over ndjson_line_bytes_max is read
         past without being held
Order:   what others refer to first: organizations, places, practitioners, patients
"""

import gzip
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

import zstandard
from msgspec import Struct

from ehr import limits
from ehr.errors import Malformed, NotFound

PACKED: Final = {".gz": "gzip", ".zst": "zstd"}
SUFFIXES: Final = tuple(f".{kind}{packed}" for kind in ("ndjson", "jsonl") for packed in ("", *PACKED))
FIRST: Final = ("Organization", "Location", "Practitioner", "PractitionerRole", "Patient")
BLOCK_BYTES: Final = 1024 * 1024
ZSTD_WINDOW_BYTES_MAX: Final = 128 * 1024 * 1024
"""What zstd's own tool reads without being asked for more."""
ZSTD_PIECE_BYTES: Final = 2_048
"""A byte of zstd may stand for 32 KiB: what a piece becomes is held."""
WHOLE_BYTES_MAX: Final = limits.import_chunk_bytes + limits.ndjson_line_bytes_max
"""A part up to this is read at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of whole lines. name is what people know the file by; path is what is read."""

    name: str
    path: str
    offset: int
    length: int
    first_line: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """As the parameters of a chunk hold it, beside others."""
        return cls(**{name: params[name] for name in cls.__dataclass_fields__})


class Line(Struct, frozen=True, gc=False):
    """One line. content None: it is too long, and was not held."""

    number: int
    content: bytes | None


def find(paths: Iterable[Path]) -> list[Path]:
    """Every NDJSON file the paths name, folders opened."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(one for one in path.iterdir() if one.name.endswith(SUFFIXES))
            if not inside:
                raise NotFound(f"no {', '.join(SUFFIXES)} file in {path.name}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise NotFound(f"no file {path.name}")
    return sorted(dict.fromkeys(found), key=lambda one: (rank(one.name.split(".", 1)[0]), str(one)))


def unpacked(path: Path, spool: Path) -> Path:
    """The file itself, or what its .gz or .zst holds."""
    if path.suffix not in PACKED:
        return path
    spool.mkdir(parents=True, exist_ok=True)
    number = sum(1 for _ in spool.iterdir())
    target = spool / f"{number}-{path.stem}"
    try:
        with path.open("rb") as packed, target.open("wb") as plain:
            if path.suffix == ".gz":
                with gzip.open(packed, "rb") as reader:
                    shutil.copyfileobj(reader, plain, BLOCK_BYTES)
            else:
                _unpack_zstd(packed, plain)
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise Malformed(f"{path.name} is not a whole {PACKED[path.suffix]} file") from error
    return target


def _unpack_zstd(packed: IO[bytes], plain: IO[bytes]) -> None:
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


def parts(name: str, path: Path, *, part_bytes: int = limits.import_chunk_bytes) -> Iterator[Part]:
    """Cut one file into parts of whole lines."""
    first_line, offset = 1, 0
    with path.open("rb") as file:
        while block := file.read(part_bytes):
            newlines = block.count(b"\n")
            if not block.endswith(b"\n"):
                newlines += _skip_line(file)
            end = file.tell()
            yield Part(name, str(path), offset, end - offset, first_line)
            first_line, offset = first_line + newlines, end


def lines(part: Part, *, line_bytes_max: int = limits.ndjson_line_bytes_max) -> Iterator[Line]:
    """The lines of a part, without their ends; blank ones too."""
    with Path(part.path).open("rb") as file:
        file.seek(part.offset)
        if part.length <= WHOLE_BYTES_MAX:
            yield from _whole_lines(file.read(part.length), part.first_line, line_bytes_max)
        else:
            yield from _single_lines(file, part, line_bytes_max)


def _whole_lines(content: bytes, first_line: int, line_bytes_max: int) -> Iterator[Line]:
    if not content:
        return
    found = content.split(b"\n")
    if not found[-1]:
        found.pop()
    for number, line in enumerate(found, start=first_line):
        text = line.rstrip(b"\r")
        yield Line(number, text if len(text) <= line_bytes_max else None)


def _single_lines(file: IO[bytes], part: Part, line_bytes_max: int) -> Iterator[Line]:
    """For a part that ends with a line nobody would want to hold."""
    number, end = part.first_line, part.offset + part.length
    while file.tell() < end:
        content: bytes | None = file.readline(line_bytes_max + 2)
        assert content, "a part lies within its file"
        if not content.endswith(b"\n") and len(content) > line_bytes_max:
            _skip_line(file)
            content = None
        yield Line(number, None if content is None else content.rstrip(b"\r\n"))
        number += 1


def _skip_line(file: IO[bytes]) -> int:
    """Read to the end of the line; 1, or 0 where the file ends before."""
    while piece := file.readline(BLOCK_BYTES):
        if piece.endswith(b"\n"):
            return 1
    return 0


def rank(type_name: str) -> int:
    """What is read first has the lowest."""
    return FIRST.index(type_name) if type_name in FIRST else len(FIRST)
