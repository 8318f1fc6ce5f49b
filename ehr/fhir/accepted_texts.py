"""Texts of codes, addresses, moments and references that were found right once, and need no second look.

In:      a text, and what kind of primitive it is or what a reference may refer to
Out:     a set or table of what is known to be right; a check for what is not, which raises ValueError or remembers it
Why:     of the texts a pattern is asked of, five in six were there in an earlier element or resource. A set answers in
         a sixth of the time the pattern takes; UNSET is in it, so that what is absent needs no question of its own
Limits:  COUNT_MAX texts of a kind, of LENGTH_MAX characters; a full memory is emptied
"""

import re
from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET

from ehr.fhir.primitives import PATTERNS
from ehr.fhir.r4 import TYPE_IDS

Meet = Callable[[str, frozenset[str] | None], None]
"""Is told of each reference to a contained resource: its id, and the types the element allows."""

COUNT_MAX: Final = 16_384
LENGTH_MAX: Final = 128

_ID: Final = PATTERNS["id"]
_LITERAL: Final = re.compile(
    rf"(?:https?://[^\s?#]+?/)?([A-Z][A-Za-z]+)/{_ID}(?:/_history/{_ID})?|([A-Z][A-Za-z]+)\?[\s\S]+", re.ASCII
)
_LOCAL: Final = re.compile(f"#{_ID}", re.ASCII)
_URN: Final = ("urn:uuid:", "urn:oid:")


def _memory(kind: str) -> tuple[set[Any], Callable[[Any], None]]:
    match = re.compile(PATTERNS[kind], re.ASCII).fullmatch
    known: set[Any] = {UNSET}

    def check(text: Any) -> None:
        if text is UNSET:  # the memory was emptied a moment ago
            return
        if not match(text):
            raise ValueError
        if len(text) <= LENGTH_MAX:
            if len(known) >= COUNT_MAX:
                known.clear()
                known.add(UNSET)
            known.add(text)

    return known, check


REMEMBERED: Final = {kind: _memory(kind) for kind in ("code", "uri", "dateTime", "instant")}
"""Kind of primitive → what is known to be right, and the check of what is not known."""

TARGETS: Final[dict[Any, str]] = {UNSET: ""}
"""Text of a reference → the type it refers to."""


def reference_check(allowed: frozenset[str] | None, meet: Meet | None) -> Callable[[Any], None]:
    """The check of a reference that is not in TARGETS, or refers to a type the element does not allow."""

    def check(text: Any) -> None:
        if text is UNSET or text.startswith(_URN):
            return
        if meet is not None and _LOCAL.fullmatch(text):
            meet(text[1:], allowed)
            return
        found = _LITERAL.fullmatch(text)
        target = found and (found[1] or found[2])
        if target not in TYPE_IDS or (allowed is not None and target not in allowed):
            raise ValueError
        if len(text) <= LENGTH_MAX:
            if len(TARGETS) >= COUNT_MAX:
                TARGETS.clear()
                TARGETS[UNSET] = ""
            TARGETS[text] = target

    return check


def or_absent(allowed: frozenset[str] | None) -> frozenset[str]:
    """The types an element allows, and what TARGETS says of a reference that is absent."""
    return frozenset({*(TYPE_IDS if allowed is None else allowed), ""})
