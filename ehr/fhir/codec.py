"""FHIR JSON in and out without losing a digit.

In:      bytes of one resource
Out:     tree; numbers with a fraction or an exponent are Decimal, so 13.50 stays 13.50
Errors:  Malformed  not JSON, a key twice in one object, a control character in a string, nested too deep
         TooMuch    over bytes_max
Why:     msgspec reads decimals as they are but keeps the last of two equal keys without a word. So the tree is written
         again and `":` is counted in both texts, without spaces between tokens: it ends each key, occurs in a string
         as often as the string says it, and is missing in the second text for each member that was lost. Texts that
         spell it otherwise in a string are read again, slowly. Written with indents, the tree shows its depth too.
Source:  FHIR R4 2.6.2 JSON (property names are unique), 2.24.0.1 decimal ("the precision … has significance"),
         string (no character below U+0020 but tab, line feed and carriage return)
"""

import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import orjson

from ehr import limits
from ehr.clock import instant
from ehr.errors import Malformed, TooMuch
from ehr.fhir.controls import refuse_controls

_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
SPELLED: Final = re.compile(rb"\\(?:u00(?:0[0-8bcefBCEF]|1[0-9a-fA-F]|22:|3[aA])|[bf])")
"""What may be the escape of a control character, or `":` in a string with one of its characters escaped; a backslash
that is itself escaped may stand before it."""

_SURROGATES: Final = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
"""Escapes of surrogate pairs, and of halves that stand alone; an escaped backslash escapes nothing after it."""

_INDENTED_BYTES_MAX: Final = 1024 * 1024
"""Of larger texts the depth is looked for in the tree: with indents a hostile one grows sixtyfold."""

_INTEGER_BITS: Final = 63
_JSON_ONLY: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS


def loads(
    body: bytes, *, bytes_max: int = limits.resource_bytes_max, depth_max: int = limits.json_depth_max
) -> dict[str, Any]:
    """Read one resource; refuse what could be read in two ways or not be stored."""
    tree = _read(body, bytes_max, depth_max)
    if not isinstance(tree, dict):
        raise Malformed("a resource is a JSON object")
    return tree


def loads_list(body: bytes) -> list[Any]:
    """Read a JSON array, as a JSON Patch is one, under the same rules."""
    items = _read(body, limits.resource_bytes_max, limits.json_depth_max)
    if not isinstance(items, list):
        raise Malformed("a JSON array is wanted")
    return items


def _read(body: bytes, bytes_max: int, depth_max: int) -> Any:
    if len(body) > bytes_max:
        raise TooMuch(f"the resource has {len(body)} bytes, the limit is {bytes_max}")
    try:
        tree = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not JSON: {_reason(error, body)}") from error
    except RecursionError as error:
        raise Malformed(f"nested deeper than {depth_max}") from error
    if not isinstance(tree, (dict, list)):
        return tree
    if not _is_plain(body, tree, depth_max):
        _refuse_deep(tree, depth_max)
        _refuse_repeated_keys(body)
        refuse_controls(tree)
    return tree


def _is_plain(body: bytes, tree: dict[str, Any] | list[Any], depth_max: int) -> bool:
    """Whether surely no key is there twice, no control character, and nothing deep."""
    compact = msgspec.json.format(body, indent=-1)
    indents = len(compact) <= _INDENTED_BYTES_MAX
    if not indents:
        _refuse_deep(tree, depth_max)
    try:
        written = orjson.dumps(tree, default=bool, option=orjson.OPT_INDENT_2 if indents else None)
    except TypeError:  # integers over 64 bits, or deeper than orjson goes
        return False
    return (
        compact.count(b'":') == written.count(b'":')
        and SPELLED.search(compact) is None
        and b"\n" + b"  " * depth_max not in written
    )


def dumps(tree: Any) -> bytes:
    """Write a tree, or a part of one, as compact JSON; every Decimal with the digits it was read with."""
    try:
        return orjson.dumps(tree, default=_verbatim, option=_JSON_ONLY)
    except TypeError as error:  # orjson refuses integers over 64 bits, which FHIR decimals may be
        if "64-bit" not in str(error):
            raise
        return orjson.dumps(_wrap_large_integers(tree), default=_verbatim, option=_JSON_ONLY)


def with_meta(body: bytes | None, tree: Mapping[str, Any], *, id: str, version: int, updated: datetime) -> bytes:
    """The sender's text with id, meta.versionId and meta.lastUpdated set; the rest as sent, in its order.

    body: the text, where the resource had one of its own; an entry of a Bundle is written from its tree.
    """
    meta = dict(tree.get("meta") or {})
    meta["versionId"] = str(version)
    meta["lastUpdated"] = instant(updated)
    if body is None:
        return dumps(_placed(tree, {"id": id, "meta": meta}))
    ours = {"id": msgspec.Raw(orjson.dumps(id)), "meta": msgspec.Raw(dumps(meta))}
    return msgspec.json.encode(_placed(_MEMBERS.decode(body), ours))


def _placed(members: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Members with ours in place of the sender's; they follow resourceType, or stand before it where they did."""
    placed: dict[str, Any] = {}
    for name, value in members.items():
        if name not in placed:
            placed[name] = ours.get(name, value)
        if name == "resourceType":
            for ours_name, own in ours.items():
                placed.setdefault(ours_name, own)
    for ours_name, own in ours.items():
        placed.setdefault(ours_name, own)
    return placed


def with_changes(body: bytes, before: Mapping[str, Any], after: Mapping[str, Any]) -> bytes:
    """The stored text of `before` with the members in which `after` differs; the text of the others stays as it is."""
    raw = _MEMBERS.decode(body)
    members: dict[str, msgspec.Raw] = {}
    for name, value in after.items():
        written = dumps(value)
        same = name in before and dumps(before[name]) == written
        members[name] = raw[name] if same else msgspec.Raw(written)
    return msgspec.json.encode(members)


def copied(node: Any) -> Any:
    """A tree, or a part of one, that may be changed while the other stays as it is."""
    if isinstance(node, Mapping):
        return {name: copied(value) for name, value in node.items()}
    return [copied(item) for item in node] if isinstance(node, list) else node


def refuse_deep(tree: dict[str, Any]) -> None:
    """A tree that was built here may be nested no deeper than one that is read."""
    _refuse_deep(tree, limits.json_depth_max)


def _refuse_deep(tree: dict[str, Any] | list[Any], depth_max: int) -> None:
    level: list[Any] = [tree]
    for _ in range(depth_max):
        below: list[Any] = []
        for node in level:
            values = node.values() if node.__class__ is dict else node
            below += [value for value in values if value.__class__ is dict or value.__class__ is list]
        if not below:
            return
        level = below
    raise Malformed(f"nested deeper than {depth_max}")


def _refuse_repeated_keys(body: bytes) -> None:
    json.loads(body, object_pairs_hook=_unique_keys, parse_float=str, parse_int=str)


def _unique_keys(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Malformed(f"the key {twice[:64]!r} occurs twice in one object")


def _verbatim(value: object) -> orjson.Fragment:
    assert isinstance(value, Decimal), f"{type(value)} is not JSON"
    assert value.is_finite(), "NaN and infinity are not JSON"
    return orjson.Fragment(decimal_text(value))


def decimal_text(value: Decimal) -> str:
    """The digits of a Decimal; small numbers as laboratories write them (0.0000000001), never as 1E-10."""
    written = str(value)
    if "E-" in written and value.adjusted() >= -_SMALL_DIGITS_MAX:
        return format(value, "f")
    return written


_SMALL_DIGITS_MAX: Final = 64
"""Below this a sender used an exponent too: plain digits would be a line of zeros."""


def _wrap_large_integers(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {name: _wrap_large_integers(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_wrap_large_integers(value) for value in node]
    if isinstance(node, int) and node.bit_length() > _INTEGER_BITS:
        return orjson.Fragment(str(node))
    return node


def _reason(error: Exception, body: bytes) -> str:
    """What is wrong and where, without the text of the body, which may name a patient."""
    if not body.strip(b" \t\r\n\0"):  # a disk that lost what was written leaves U+0000
        return "the body is empty" + (", but for U+0000" if b"\0" in body else "")
    if body.startswith(BOM_UTF8):
        return "it begins with a byte order mark (EF BB BF); send UTF-8 without one"
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\x00" in body[:2]:
        return "it is UTF-16; FHIR is UTF-8"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {_first_not_utf8(body)} is not UTF-8"
    for half in _SURROGATES.finditer(body):
        if half["half"]:
            return f"half of a surrogate pair stands alone in a string (byte {half.start()})"
    reason = str(error).removeprefix("JSON is malformed: ")
    if body.lstrip().startswith(b"<"):
        reason = "it is XML or HTML; XML is sent as application/fhir+xml"
    return "it ends too early" if reason == "Input data was truncated" else reason


def _first_not_utf8(body: bytes) -> int:
    """The decoder's own place is counted within one string."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    raise AssertionError("a string of it was not UTF-8")
