"""Functions on texts.

Keeps:   regular expressions are run by RE2, whose time grows with the text only: no pattern can hang a server
Source:  FHIRPath 2.0.0 section 5.6 string manipulation, and what its next release adds to it
"""

import base64
import binascii
import html
import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import re2

from ehr import limits
from ehr.errors import TooMuch
from ehr.fhir.fhirpath.compiler import Arguments, function
from ehr.fhir.fhirpath.context import Context, Items, made_text
from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.items import computed
from ehr.fhir.fhirpath.operators import integer_of, said, text_of

_CHARACTERS_A_STEP: Final = 64
"""What a text costs: a function looks at so many characters in the time of one step."""


def _text(context: Context, items: Items, name: str) -> str | None:
    text = text_of(items, f"{name}()")
    if text is not None:
        context.spend(1 + len(text) // _CHARACTERS_A_STEP)
    return text


def _given(context: Context, arguments: Arguments, position: int, name: str) -> str | None:
    return _text(context, arguments[position].value(context), name)


def _made(text: str) -> Items:
    return [computed(made_text(text), "String")]


def _tested(name: str, test: Callable[[str, str], bool]) -> None:
    """A function that compares a text with another."""

    def tests(context: Context, items: Items, arguments: Arguments) -> Items:
        text, other = _text(context, items, name), _given(context, arguments, 0, name)
        return [] if text is None or other is None else said(test(text, other))

    function(name, 1)(tests)


def _changed(name: str, change: Callable[[str], str]) -> None:
    """A function that makes a text of a text."""

    def changes(context: Context, items: Items, _arguments: Arguments) -> Items:
        text = _text(context, items, name)
        return [] if text is None else _made(change(text))

    function(name)(changes)


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> Any:
    """Compiled; `.` matches a line end too, as FHIRPath has it."""
    if len(pattern) > limits.fhirpath_characters_max:
        raise TooMuch(f"FHIRPath: a regular expression of over {limits.fhirpath_characters_max} characters")
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ExpressionError("FHIRPath: a regular expression that cannot be read, or looks around or back") from error


_tested("startsWith", str.startswith)
_tested("endsWith", str.endswith)
_tested("contains", lambda text, other: other in text)
_tested("matches", lambda text, pattern: _pattern(pattern).search(text) is not None)
_tested("matchesFull", lambda text, pattern: _pattern(pattern).fullmatch(text) is not None)
_changed("upper", str.upper)
_changed("lower", str.lower)
_changed("trim", str.strip)


@function("indexOf", 1)
def _index_of(context: Context, items: Items, arguments: Arguments) -> Items:
    text, other = _text(context, items, "indexOf"), _given(context, arguments, 0, "indexOf")
    return [] if text is None or other is None else [computed(text.find(other), "Integer")]


@function("lastIndexOf", 1)
def _last_index_of(context: Context, items: Items, arguments: Arguments) -> Items:
    text, other = _text(context, items, "lastIndexOf"), _given(context, arguments, 0, "lastIndexOf")
    return [] if text is None or other is None else [computed(text.rfind(other), "Integer")]


@function("substring", 1, 2)
def _substring(context: Context, items: Items, arguments: Arguments) -> Items:
    text = _text(context, items, "substring")
    start = integer_of(arguments[0].value(context), "substring()")
    length = integer_of(arguments[1].value(context), "substring()") if len(arguments) > 1 else None
    if text is None or start is None or not 0 <= start < len(text):
        return []
    return _made(text[start:] if length is None else text[start : start + max(0, length)])


@function("length")
def _length(context: Context, items: Items, _arguments: Arguments) -> Items:
    text = _text(context, items, "length")
    return [] if text is None else [computed(len(text), "Integer")]


@function("toChars")
def _to_chars(context: Context, items: Items, _arguments: Arguments) -> Items:
    text = _text(context, items, "toChars") or ""
    context.spend(len(text))
    return [computed(letter, "String") for letter in text]


@function("replace", 2)
def _replace(context: Context, items: Items, arguments: Arguments) -> Items:
    text = _text(context, items, "replace")
    old, new = (_given(context, arguments, position, "replace") for position in (0, 1))
    if text is None or old is None or new is None:
        return []
    _refuse_long((text.count(old) if old else len(text) + 1) * len(new))
    return _made(text.replace(old, new))


@function("replaceMatches", 2)
def _replace_matches(context: Context, items: Items, arguments: Arguments) -> Items:
    text = _text(context, items, "replaceMatches")
    pattern, new = (_given(context, arguments, position, "replaceMatches") for position in (0, 1))
    if text is None or pattern is None or new is None:
        return []
    if not pattern:
        return _made(text)
    compiled, made, length = _pattern(pattern), [], 0
    at = 0
    for match in compiled.finditer(text):
        context.spend(1)
        piece = _expanded(match, new)
        length += len(piece)
        _refuse_long(length)
        made += [text[at : match.start()], piece]
        at = match.end()
    return _made("".join([*made, text[at:]]))


def _expanded(match: Any, template: str) -> str:
    """$1 or ${name} stand for a group of the match."""
    if "$" not in template:
        return template
    return str(_GROUP.sub(lambda group: _group(match, group[1] or group[2]), template))


_GROUP: Final = re2.compile(r"\$(?:(\d)|\{(\w+)\})")


def _group(match: Any, name: str) -> str:
    try:
        return str(match[int(name) if name.isdigit() else name] or "")
    except (IndexError, KeyError) as error:
        raise ExpressionError("FHIRPath: a substitution names a group the regular expression does not have") from error


def _refuse_long(characters: int) -> None:
    if characters > limits.fhirpath_text_characters_max:
        raise TooMuch(f"FHIRPath: a text of over {limits.fhirpath_text_characters_max} characters")


@function("split", 1)
def _split(context: Context, items: Items, arguments: Arguments) -> Items:
    text, separator = _text(context, items, "split"), _given(context, arguments, 0, "split")
    if text is None:
        return []
    parts = text.split(separator) if separator else list(text)
    context.spend(len(parts))
    return [computed(part, "String") for part in parts]


@function("join", 0, 1)
def _join(context: Context, items: Items, arguments: Arguments) -> Items:
    separator = (_given(context, arguments, 0, "join") if arguments else None) or ""
    texts = [text for item in items if (text := text_of([item], "join()")) is not None]
    context.spend(len(texts))
    _refuse_long(sum(map(len, texts)) + len(separator) * len(texts))
    return _made(separator.join(texts)) if items else []


_JSON_ESCAPE: Final = re.compile(r'(?:\\u[0-9A-Fa-f]{4})+|\\["\\/bfnrt]')

_Coding = tuple[Callable[[str], str], Callable[[str], str]]

_ENCODINGS: Final[dict[str, _Coding]] = {
    "hex": (lambda text: text.encode().hex(), lambda text: bytes.fromhex(text).decode()),
    "base64": (
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64decode(text, validate=True).decode(),
    ),
    "urlbase64": (
        lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
        lambda text: base64.urlsafe_b64decode(text).decode(),
    ),
}
_ESCAPES: Final[dict[str, _Coding]] = {
    "html": (lambda text: html.escape(text, quote=True), html.unescape),
    "json": (
        lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
        lambda text: _JSON_ESCAPE.sub(lambda found: str(json.loads(f'"{found[0]}"')), text),
    ),
}


def _coded(name: str, table: dict[str, _Coding], direction: int) -> None:
    def code(context: Context, items: Items, arguments: Arguments) -> Items:
        text, form = _text(context, items, name), _given(context, arguments, 0, name)
        if text is None or form is None:
            return []
        if form not in table:
            raise ExpressionError(f"FHIRPath: {name}() knows {', '.join(table)}")
        try:
            return _made(table[form][direction](text))
        except (ValueError, binascii.Error):
            return []

    function(name, 1)(code)


_coded("encode", _ENCODINGS, 0)
_coded("decode", _ENCODINGS, 1)
_coded("escape", _ESCAPES, 0)
_coded("unescape", _ESCAPES, 1)
