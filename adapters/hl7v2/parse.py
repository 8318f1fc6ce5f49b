"""Turn the bytes of one HL7 v2 message into a Message that mappers can read, or say exactly why it is none.

In:      payload of one MLLP block: v2.1 to v2.8, segments ended by CR, LF or CRLF, a byte order mark tolerated
Out:     Message; text is str, unescaped when it is read
Charset: MSH-18, else UTF-8; bytes that are not in the declared set are refused with their path, never replaced
Errors:  Malformed     no MSH, two MSH, a line that is no segment        (AR)
         Invalid       undecodable bytes                                 (AE)
         NotSupported  a character set we do not know                    (AR)
         TooMuch       more segments or values than a message can need   (AR)
Cost:    a message is split into segments and fields, and a field further when it is first read: a fifth of the time
         that the library takes to make containers of everything
Why:     the hl7 library reads a message with LF separators as one segment, without error, and PID is gone; it raises
         IndexError or AssertionError on short headers. Both end here.
Source:  HL7 v2.5.1 2.5 (message structure), 2.7 (escape sequences), 2.15.9.18 and table 0211 (character sets)
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Final

import hl7
from hl7.parser import _ParsePlan, _split, create_parse_plan

from ehr import limits
from ehr.errors import Invalid, Malformed, NotSupported, TooMuch

BOM: Final = b"\xef\xbb\xbf"

CHARSETS: Final[Mapping[str, str]] = {
    "": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/15": "iso8859-15",
    "CP1252": "cp1252",
    "WINDOWS-1252": "cp1252",
    "CP1258": "cp1258",
    "WINDOWS-1258": "cp1258",
}
_LIBRARY_ERRORS: Final = (hl7.HL7Exception, IndexError, KeyError, ValueError, AssertionError, TypeError)
_SEGMENT_START: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_LINE_END: Final = re.compile(r"\r\n|\n(?=[A-Z][A-Z0-9]{2}\W)|\n+\Z")
_ESCAPE: Final = re.compile(r"\\([^\\\r]{0,80})\\")
NULL: Final = '""'
"""HL7 2.5.3.6: the sender states that there is no value, where an empty field states nothing."""


class _Plan(_ParsePlan):  # type: ignore[misc]
    """The library's plan, which it makes anew for every part it splits, made once for each level."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._signs = frozenset(self.separators[self.separators.find(self.separator) :])
        self._below: _Plan | None = super().next()

    def next(self) -> "_Plan | None":
        return self._below

    def applies(self, text: str) -> bool:
        return not self._signs.isdisjoint(text)


class _ToFields(_Plan):
    """A plan that ends with the fields: what is in a field stays text."""

    def next(self) -> "_Plan | None":
        below = self._below
        return below if below is not None and below.containers[0] == self.factory.create_segment else None


class _Parts(list[Any]):
    """Repetitions, components or sub-components: what the library's containers are, without what is never asked."""

    __slots__ = ("separator",)

    def __init__(self, separator: str, parts: Sequence[Any]) -> None:
        super().__init__(parts)
        self.separator = separator

    def __str__(self) -> str:
        return self.separator.join(map(str, self))


class _Factory(hl7.Factory):  # type: ignore[misc]
    """What the library makes of the parts of a field."""

    @staticmethod
    def create_field(sequence: Sequence[Any], separators: str, **_: object) -> _Parts:
        return _Parts(separators[2], sequence)

    @staticmethod
    def create_repetition(sequence: Sequence[Any], separators: str, **_: object) -> _Parts:
        return _Parts(separators[3], sequence)

    @staticmethod
    def create_component(sequence: Sequence[Any], separators: str, **_: object) -> _Parts:
        return _Parts(separators[4], sequence)


@dataclass(frozen=True, slots=True)
class Element:
    """One repetition of a field: components and sub-components from 1, as in the standard."""

    node: Any
    message: "Message"
    path: str

    def text(self, component: int = 1, sub: int = 1) -> str:
        """The unescaped text; "" where there is none, and for the null value."""
        value = self.raw(component, sub)
        return "" if value == NULL else self.message.unescape(value).strip()

    def raw(self, component: int = 1, sub: int = 1) -> str:
        parts = _parts(self.node)
        if component > len(parts):
            return ""
        subs = _parts(parts[component - 1])
        return str(subs[sub - 1]) if sub <= len(subs) else ""

    def component(self, component: int) -> str:
        """A component whole, its sub-components left joined: for a component that should have none."""
        parts = _parts(self.node)
        value = str(parts[component - 1]) if component <= len(parts) else ""
        return "" if value == NULL else self.message.unescape(value).strip()

    def whole(self) -> str:
        """All of it as one text: for free text whose sender forgot to escape a separator."""
        value = str(self.node)
        return "" if value == NULL else self.message.unescape(value)

    def __bool__(self) -> bool:
        return bool(str(self.node).strip("^&~ ")) and str(self.node) != NULL


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; fields from 1. occurrence: the how manieth of its name; position: its place in the message."""

    name: str
    occurrence: int
    position: int
    fields: Sequence[Any]
    message: "Message"
    _split_fields: dict[int, list[Any]] = dataclass_field(default_factory=dict, compare=False, repr=False)

    def path(self, field: int, component: int | None = None) -> str:
        """Where a value stands: "PID-3.1", or "OBX[2]-5" in a segment that repeats."""
        at = self.name if self.occurrence == 1 else f"{self.name}[{self.occurrence}]"
        return f"{at}-{field}" + (f".{component}" if component else "")

    def repetitions(self, field: int) -> list[Element]:
        """The filled repetitions of a field."""
        if field < len(self.fields) and not str(self.fields[field]).strip("^&~ "):
            return []
        found = [Element(node, self.message, self.path(field)) for node in self._nodes(field)]
        return [element for element in found if element]

    def first(self, field: int) -> Element:
        nodes = self._nodes(field)
        return Element(nodes[0] if nodes else "", self.message, self.path(field))

    def text(self, field: int, component: int = 1, sub: int = 1) -> str:
        return self.first(field).text(component, sub)

    def null(self, field: int) -> bool:
        """The sender states that there is no value."""
        return str(self.first(field).node) == NULL

    def filled(self, field: int) -> bool:
        return bool(self.repetitions(field))

    @property
    def notes(self) -> list[str]:
        """The texts of the NTE segments that directly follow."""
        found = self.message.after(self, "NTE")
        texts = ["\n".join(element.whole() for element in note.repetitions(3)).strip() for note in found]
        return [text for text in texts if text]

    def _nodes(self, field: int) -> list[Any]:
        if field >= len(self.fields):
            return []
        nodes = self._split_fields.get(field)
        if nodes is None:
            content = self.message.split(self.fields[field])
            nodes = self._split_fields[field] = [content] if isinstance(content, str) else list(content)
        return nodes


@dataclass(frozen=True, slots=True)
class Message:
    """One parsed message."""

    segments: tuple[Segment, ...]
    separators: str
    charset: str
    field_plan: Any

    @staticmethod
    def of(text: str, charset: str) -> "Message":
        plan = create_parse_plan(text, _Factory)
        levels = (plan.separator, plan.separators, plan.containers, plan.esc, plan.factory)
        segment_plan = _Plan(*levels).next()
        assert segment_plan is not None, "the library's plan begins with the message"
        parsed = _split(text, _ToFields(*levels))
        message = Message((), str(parsed.separators), charset, segment_plan.next())
        seen: dict[str, int] = {}
        found = []
        for position, line in enumerate(parsed):
            name = str(line[0])
            seen[name] = seen.get(name, 0) + 1
            found.append(Segment(name, seen[name], position, line, message))
        object.__setattr__(message, "segments", tuple(found))
        return message

    def split(self, field: Any) -> Any:
        """A field, as text, in repetitions, components and sub-components; a text without separators as it is."""
        if not isinstance(field, str) or not self.field_plan.applies(field):
            return field
        return _split(field, self.field_plan)

    @property
    def header(self) -> Segment:
        return self.segments[0]

    def after(self, segment: Segment, name: str) -> Iterator[Segment]:
        """The segments of one name that directly follow another segment."""
        place = segment.position + 1
        while place < len(self.segments) and self.segments[place].name == name:
            yield self.segments[place]
            place += 1

    def all(self, name: str) -> list[Segment]:
        return [segment for segment in self.segments if segment.name == name]

    def find(self, name: str) -> Segment | None:
        return next(iter(self.all(name)), None)

    @property
    def type(self) -> tuple[str, str]:
        """MSH-9 as (message code, trigger event)."""
        return self.header.text(9, 1).upper(), self.header.text(9, 2).upper()

    def unescape(self, text: str) -> str:
        if "\\" not in text:
            return text
        return _ESCAPE.sub(self._unescaped, text)

    def _unescaped(self, match: re.Match[str]) -> str:
        code = match[1]
        # separators in the library's order: segment, field, repetition, component, sub-component
        signs = {"F": 1, "R": 2, "S": 3, "T": 4}
        if code in signs:
            return self.separators[signs[code]]
        if code == "E":
            return "\\"
        if code in ("H", "N"):
            return ""
        if code in (".br", ".sp", ".BR", ".SP"):
            return "\n"
        if code[:1] == "X" and re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
            text = bytes.fromhex(code[1:]).decode(self.charset, errors="replace")
            return match[0] if "\0" in text or "\ufffd" in text else text
        return match[0]


def parse(payload: bytes) -> Message:
    """Read one message; every fault of the input is an EhrError."""
    body = payload.removeprefix(BOM).lstrip(b"\r\n\t ")
    if not body.startswith(b"MSH"):
        raise Malformed("a message starts with MSH", at="MSH")
    charset = _charset(body)
    text = _LINE_END.sub("\r", _decoded(body, charset)).strip("\r\n")
    if "\0" in text:
        raise Malformed("NUL character in the message", at="MSH")
    lines = [line.rstrip(" \t") for line in text.split("\r") if line.strip()]
    _check_lines(lines)
    lines[0] = _with_sane_separators(lines[0])
    values = sum(text.count(separator) for separator in set(lines[0][3:8]))
    if values > limits.hl7_values_max:
        raise TooMuch(f"the message has {values} separators, the limit is {limits.hl7_values_max}", at="MSH")
    try:
        return Message.of("\r".join(lines).strip(), charset)
    except _LIBRARY_ERRORS as error:
        raise Malformed("the header does not say how to read the message", at="MSH-2") from error


def _check_lines(lines: list[str]) -> None:
    if len(lines) > limits.hl7_segments_max:
        raise TooMuch(f"the message has {len(lines)} segments, the limit is {limits.hl7_segments_max}", at="MSH")
    header = lines[0]
    if len(header) < 8 or header[3].isalnum() or header[3].isspace():
        raise Malformed("MSH-1 and MSH-2 name the separators", at="MSH-1")
    for number, line in enumerate(lines, start=1):
        if not _SEGMENT_START.match(line) or (len(line) > 3 and line[3] != header[3]):
            raise Malformed(f"line {number} of the message is not a segment", at=f"line {number}")
        if number > 1 and line[:3] in ("MSH", "BHS", "FHS"):
            raise Malformed(f"line {number}: a second message in one block", at="MSH[2]")


def _with_sane_separators(header: str) -> str:
    """MSH-2 with its escape character doubled, as some exports write it, is the usual MSH-2.

    Read literally it would name the same character for escape and sub-component, and nothing could be unescaped.
    """
    field = header[3]
    encoding = header[4:].split(field, 1)[0]
    if len(encoding) > 3 and len(set(encoding[:4])) < 4:
        deduplicated = "".join(dict.fromkeys(encoding))
        if len(deduplicated) < 4:
            raise Malformed("MSH-2 names one character for two purposes", at="MSH-2")
        return header[:4] + deduplicated + header[4 + len(encoding) :]
    if any(sign.isalnum() or sign.isspace() for sign in encoding) or field in encoding or len(encoding) < 1:
        raise Malformed("MSH-2 holds something other than separators", at="MSH-2")
    return header


def _charset(body: bytes) -> str:
    declared = ""
    fields = _header_fields(body)
    if len(fields) > 17:
        # the repetition separator of MSH-2; only the first repetition tells the set of the message
        repetition = fields[1][1:2] or b"~"
        declared = fields[17].split(repetition)[0].split(fields[1][:1] or b"^")[0].decode("ascii", "replace").strip()
    charset = CHARSETS.get(declared.upper().replace("_", " "))
    if charset is None:
        raise NotSupported("the character set of MSH-18 is not known here", at="MSH-18")
    return charset


def _header_fields(body: bytes) -> list[bytes]:
    """MSH split at its field separator; [1] is MSH-2, so [n - 1] is MSH-n."""
    line = re.split(rb"[\r\n]", body, maxsplit=1)[0]
    return line.split(line[3:4]) if len(line) > 3 else [line]


def _decoded(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset)
    except UnicodeDecodeError as error:
        at = _place(body, error.start)
        raise Invalid(f"bytes that are not {charset}; declare the character set in MSH-18", at=at) from error


def _place(body: bytes, offset: int) -> str:
    """The HL7 path of one byte: "PID-5", or "OBX[2]-5"."""
    before = re.split(rb"[\r\n]+", body[:offset])
    line = before[-1]
    name = line[:3].decode("ascii", "replace")
    earlier = sum(1 for other in before[:-1] if other[:3] == line[:3])
    field = line.count(body[3:4]) + (1 if name == "MSH" else 0)
    return (name if not earlier else f"{name}[{earlier + 1}]") + f"-{field}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the ledger needs to know of a message before it is read, as far as the header can be understood."""

    control_id: str
    kind: str
    facility: str


def peek(payload: bytes) -> Envelope:
    """Read the envelope of anything; never refuses, because what cannot be read must be kept too."""
    body = payload.removeprefix(BOM).lstrip(b"\r\n\t ")
    if not body.startswith(b"MSH"):
        return Envelope("?", "?", "")
    fields = [field.decode("utf-8", "replace").replace("\0", "") for field in _header_fields(body)[:24]]
    fields += [""] * (24 - len(fields))
    component = fields[1][:1] or "^"
    kind = "^".join(part.strip() for part in fields[8].split(component)[:2]) or "?"
    return Envelope(
        fields[9].strip()[: limits.control_id_characters_max] or "?",
        kind[:40],
        fields[3].split(component)[0].strip()[:64],
    )


def _parts(node: Any) -> list[Any]:
    return [node] if isinstance(node, str) else list(node)
