"""The text of an expression → its tokens.

In:      FHIRPath text
Out:     tokens in order; the last one is of kind "end"
Errors:  ExpressionError  a character or literal that FHIRPath does not have, with its position
Source:  FHIRPath 2.0.0, section 12 (lexical elements) and its grammar
"""

import re
from dataclasses import dataclass
from typing import Final

from ehr.fhir.fhirpath.errors import ExpressionError

_TOKEN: Final = re.compile(
    r"""(?P<space>(?:\s|//[^\r\n]*|/\*.*?\*/)+)
    |(?P<time>@T\d{2}(?::\d{2}(?::\d{2}(?:\.\d+)?)?)?)
    |(?P<datetime>@\d{4}(?:-\d{2}(?:-\d{2})?)?T(?:\d{2}(?::\d{2}(?::\d{2}(?:\.\d+)?)?)?(?:Z|[+-]\d{2}:\d{2})?)?)
    |(?P<date>@\d{4}(?:-\d{2}(?:-\d{2})?)?)
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<string>'(?:[^'\\]|\\.)*')
    |(?P<quoted>`(?:[^`\\]|\\.)*`)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<dollar>\$[a-z]+)
    |(?P<operator><=|>=|!=|!~|[-+*/&|=~<>.,()\[\]{}%])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED: Final = {"f": "\f", "n": "\n", "r": "\r", "t": "\t", "\\": "\\", "/": "/", "'": "'", '"': '"', "`": "`"}


@dataclass(frozen=True, slots=True)
class Token:
    """kind: a group of the pattern, or "end"; text: without quotes and escapes; at: position of its first character."""

    kind: str
    text: str
    at: int


def tokens(expression: str) -> list[Token]:
    found: list[Token] = []
    at = 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise ExpressionError(f"FHIRPath: {expression[at]!r} at position {at + 1} begins nothing that can be read")
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(Token(kind, _text(kind, match[0], at), at))
        at = match.end()
    found.append(Token("end", "", at))
    return found


def _text(kind: str, written: str, at: int) -> str:
    if kind in ("string", "quoted"):
        return _ESCAPE.sub(lambda escape: _unescaped(escape, at), written[1:-1])
    return written.lstrip("@T") if kind in ("time", "datetime", "date") else written


def _unescaped(escape: re.Match[str], at: int) -> str:
    letter = escape[1]
    if len(letter) == 5:
        return chr(int(letter[1:], 16))
    if letter not in _ESCAPED:
        raise ExpressionError(f"FHIRPath: the text at position {at + 1} has an unknown escape \\{letter}")
    return _ESCAPED[letter]
