"""Paths → parts of NDJSON files, bounded in bytes, each with the number of its first line; and parts → lines.

In:      files and folders; of a folder those named .ndjson and .jsonl, also with .gz and .zst (ehr.bulk.unpack)
Limits:  a part ends with the first line that reaches import_chunk_bytes, or after import_chunk_lines; a line over
         ndjson_line_bytes_max is read past without being held
Order:   what others refer to first: organizations, places, practitioners, patients
Errors:  Invalid       a file that has changed since it was cut: line numbers and places would mean something else;
                       one whose name is not UTF-8
         Unavailable   one that cannot be read now
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

from msgspec import Struct

from ehr import limits
from ehr.bulk.unpack import BLOCK_BYTES
from ehr.errors import Invalid, NotFound, Unavailable

SUFFIXES: Final = tuple(f".{kind}{packed}" for kind in ("ndjson", "jsonl") for packed in ("", ".gz", ".zst"))
FIRST: Final = ("Organization", "Location", "Practitioner", "PractitionerRole", "Patient")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Some editors begin UTF-8 with it; it is no part of the first line."""
_HALVES: Final = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes in a name that are not UTF-8; a job could not be written down with it."""
WHOLE_BYTES_MAX: Final = limits.import_chunk_bytes + limits.ndjson_line_bytes_max
"""A part up to this is read at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of whole lines. name is what people know the file by; path is what is read, if it was changed then."""

    name: str
    path: str
    offset: int
    length: int
    first_line: int
    changed_ns: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """As the parameters of a chunk hold it, beside others."""
        return cls(**{name: params[name] for name in cls.__dataclass_fields__})


class Line(Struct, frozen=True, gc=False):
    """One line. content None: it is too long, and was not held."""

    number: int
    content: bytes | None


def find(paths: Iterable[Path]) -> list[Path]:
    """Every NDJSON file the paths name, each once; folders opened, and those in them."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(_inside(path))
            if not inside:
                raise NotFound(f"no {', '.join(SUFFIXES)} file in {path.name}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise NotFound(f"no file {path}")
    for path in found:
        if _HALVES.search(str(path)):
            raise Invalid(f"the name {path.name!a} is not UTF-8; rename the file, or the folder it is in")
    once = {path.resolve(): path for path in reversed(found)}
    return sorted(once.values(), key=lambda one: (rank(one.name.split(".", 1)[0]), str(one)))


def _inside(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.name.endswith(SUFFIXES) and not hidden and path.is_file():
            yield path


def names(paths: Sequence[Path]) -> list[str]:
    """What people know files by: the last parts of their paths, as many as tell them apart."""
    for depth in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        found = [str(Path(*path.parts[-depth:])) for path in paths]
        if len(set(found)) == len(found):
            return found
    return [str(path) for path in paths]


def parts(
    name: str,
    path: Path,
    *,
    part_bytes: int = limits.import_chunk_bytes,
    part_lines: int = limits.import_chunk_lines,
) -> Iterator[Part]:
    """Cut one file into parts of whole lines."""
    first_line, offset = 1, 0
    with path.open("rb") as file:
        changed = os.fstat(file.fileno()).st_mtime_ns
        if file.read(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK:
            offset = len(_BYTE_ORDER_MARK)
        file.seek(offset)
        while block := file.read(part_bytes):
            newlines = block.count(b"\n")
            if newlines > part_lines:
                newlines = part_lines
                file.seek(offset + len(block) - len(block.split(b"\n", part_lines)[-1]))
            elif not block.endswith(b"\n"):
                newlines += _skip_line(file)
            end = file.tell()
            yield Part(name, str(path), offset, end - offset, first_line, changed)
            first_line, offset = first_line + newlines, end


def lines(part: Part, *, line_bytes_max: int = limits.ndjson_line_bytes_max) -> Iterator[Line]:
    """The lines of a part, without their ends; blank ones too."""
    with _opened(part) as file:
        if os.fstat(file.fileno()).st_mtime_ns != part.changed_ns:
            raise Invalid(f"{part.name} has changed since this import of it began; import it anew")
        file.seek(part.offset)
        if part.length <= WHOLE_BYTES_MAX:
            yield from _whole_lines(file.read(part.length), part.first_line, line_bytes_max)
        else:
            yield from _single_lines(file, part, line_bytes_max)


def _opened(part: Part) -> IO[bytes]:
    try:
        return Path(part.path).open("rb")
    except OSError as error:
        raise Unavailable(f"{part.name} cannot be read: {error.strerror}") from error


def _whole_lines(content: bytes, first_line: int, line_bytes_max: int) -> Iterator[Line]:
    if not content:
        return
    found = content.split(b"\n")
    if not found[-1]:
        found.pop()
    if b"\r" in content:
        found = [line.rstrip(b"\r") for line in found]
    for number, line in enumerate(found, start=first_line):
        yield Line(number, line if len(line) <= line_bytes_max else None)


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
