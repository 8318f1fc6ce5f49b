"""One HL7 v2 message as mappers read it: segments by name, fields, components and sub-components by number from 1.

In:      the text of a message, its header checked (parse.py)
Out:     Message, Segment, Element; text is str, unescaped when it is read; "" where nothing was sent
Cost:    a message is split into segments and fields, and a field further when it is first read: a fifth of the time
         that the library takes to make containers of everything
Source:  HL7 v2.5.1 2.5 (message structure), 2.7 (escape sequences)
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any, Final

import hl7
from hl7.parser import _ParsePlan, _split, create_parse_plan

from ehr.fhir.primitives import CONTROL

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
    escape: str
    charset: str
    field_plan: Any

    @staticmethod
    def of(text: str, charset: str) -> "Message":
        plan = create_parse_plan(text, _Factory)
        levels = (plan.separator, plan.separators, plan.containers, plan.esc, plan.factory)
        segment_plan = _Plan(*levels).next()
        assert segment_plan is not None, "the library's plan begins with the message"
        parsed = _split(text, _ToFields(*levels))
        message = Message((), str(parsed.separators), str(plan.esc), charset, segment_plan.next())
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

    def by_patient(self) -> list["Message"]:
        """The message once for each PID, what stands before the first in each: places stay those of the whole."""
        starts = [segment.position for segment in self.all("PID")]
        if len(starts) < 2:
            return [self]
        head = self.segments[: starts[0]]
        ends = [*starts[1:], len(self.segments)]
        return [
            replace(self, segments=(*head, *self.segments[start:end])) for start, end in zip(starts, ends, strict=True)
        ]

    @property
    def type(self) -> tuple[str, str]:
        """MSH-9 as (message code, trigger event)."""
        return self.header.text(9, 1).upper(), self.header.text(9, 2).upper()

    def unescape(self, text: str) -> str:
        sign = self.escape
        if sign not in text:
            return text
        quoted = re.escape(sign)
        return re.sub(rf"{quoted}([^{quoted}\r]{{0,80}}){quoted}", self._unescaped, text)

    def _unescaped(self, match: re.Match[str]) -> str:
        code = match[1]
        # separators in the library's order: segment, field, repetition, component, sub-component
        signs = {"F": 1, "R": 2, "S": 3, "T": 4}
        if code in signs:
            return self.separators[signs[code]]
        if code == "E":
            return self.escape
        if code in ("H", "N"):
            return ""
        if code in (".br", ".sp", ".BR", ".SP"):
            return "\n"
        if code[:1] == "X" and re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
            text = bytes.fromhex(code[1:]).decode(self.charset, errors="replace")
            return match[0] if CONTROL.search(text) or "\ufffd" in text else text
        return match[0]


def _parts(node: Any) -> list[Any]:
    return [node] if isinstance(node, str) else list(node)
