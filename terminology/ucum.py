"""UCUM units → how they are compared: "mg" is a thousandth of "g", "[degF]" and "Cel" are one scale.

In:      a case sensitive unit code ("mmol/L", "10*3/uL", "mm[Hg]"); a value in one unit, asked for in another
Out:     Unit: its dimensions and the line that leads to them; exact, as fractions
Errors:  None for what is not UCUM: such a unit is compared with nothing but itself
Limits:  CODE_CHARACTERS_MAX; exponents of two digits
Own      a mole is a dimension of its own here, so that an amount is never compared with a bare number; arbitrary units
         ([iU]) and scales that are no ratios (pH, bel) are dimensions too, as they convert into nothing else
Source:  The Unified Code for Units of Measure 2.2, sections 2 to 4; terminology/data/ucum.json holds its table
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

import orjson

CODE_CHARACTERS_MAX: Final = 64
UNITS_KEPT_MAX: Final = 4_096

Dimensions = tuple[tuple[str, int], ...]

_TOKEN: Final = re.compile(r"(?P<mark>[./()])|(?P<part>(?:\[[^\]\s]*\]|[^./()\[\]\s])+)")
_ANNOTATION: Final = re.compile(r"\{[!-z|~]*\}")
_PART: Final = re.compile(r"(?P<code>.*?[^\d+\-]|10[*^])(?P<exponent>[+\-]?\d{1,2})?")
_FACTOR: Final = re.compile(r"[1-9]\d{0,8}")
_OFFSETS: Final[Mapping[str, tuple[Fraction, Fraction]]] = MappingProxyType(
    {
        "Cel": (Fraction(1), Fraction("273.15")),
        "[degF]": (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9)),
        "[degRe]": (Fraction(5, 4), Fraction("273.15")),
    }
)
"""Scales of temperature: K = factor × value + offset. They stand alone, never in a product."""


@dataclass(frozen=True, slots=True)
class Unit:
    """In base units: factor × value + offset."""

    factor: Fraction
    dimensions: Dimensions = ()
    offset: Fraction = Fraction(0)

    def to(self, other: "Unit", value: Fraction) -> Fraction:
        """A value in this unit, in another of the same dimensions."""
        assert self.dimensions == other.dimensions, "asked of units that can be compared"
        return (self.factor * value + self.offset - other.offset) / other.factor

    def times(self, other: "Unit", sign: int) -> "Unit":
        powers = dict(self.dimensions)
        for name, power in other.dimensions:
            powers[name] = powers.get(name, 0) + sign * power
        kept = tuple(sorted((name, power) for name, power in powers.items() if power))
        return Unit(self.factor * other.factor**sign, kept)

    def power(self, exponent: int) -> "Unit":
        return Unit(self.factor**exponent, tuple((name, power * exponent) for name, power in self.dimensions))


class _Unknown(Exception):
    """Not UCUM."""


@lru_cache(UNITS_KEPT_MAX)
def unit_of(code: str) -> Unit | None:
    """A unit by its code; None where UCUM has no such unit."""
    if len(code) > CODE_CHARACTERS_MAX:
        return None
    if found := _OFFSETS.get(code):
        return Unit(found[0], (("K", 1),), found[1])
    try:
        return _Reader(code).whole()
    except _Unknown:
        return None


class _Reader:
    """Descends along the grammar of section 2: products and quotients from left to right, parentheses, exponents."""

    def __init__(self, code: str) -> None:
        plain = _ANNOTATION.sub("{}", code)
        self._tokens: list[str] = []
        position = 0
        while position < len(plain):
            found = _TOKEN.match(plain, position)
            if found is None:
                raise _Unknown
            self._tokens.append(found[0])
            position = found.end()
        self._at = 0

    def whole(self) -> Unit:
        found = self._term()
        if self._at != len(self._tokens):
            raise _Unknown
        return found

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _term(self) -> Unit:
        made = Unit(Fraction(1))
        sign = 1
        if self._peek() == "/":
            self._at, sign = self._at + 1, -1
        made = made.times(self._component(), sign)
        while self._peek() in {".", "/"}:
            sign = 1 if self._peek() == "." else -1
            self._at += 1
            made = made.times(self._component(), sign)
        return made

    def _component(self) -> Unit:
        mark = self._peek()
        self._at += 1
        if mark == "(":
            inner = self._term()
            if self._peek() != ")":
                raise _Unknown
            self._at += 1
            return inner
        if mark in {"", ")", ".", "/"}:
            raise _Unknown
        return _part(mark)


def _part(text: str) -> Unit:
    plain = text.removesuffix("{}")
    if not plain:  # an annotation alone is the number one
        return Unit(Fraction(1))
    if _FACTOR.fullmatch(plain):
        return Unit(Fraction(int(plain)))
    found = _PART.fullmatch(plain)
    if found is None or "{" in plain:
        raise _Unknown
    return _symbol(found["code"]).power(int(found["exponent"] or 1))


def _symbol(code: str) -> Unit:
    units, prefixes = _table()["units"], _table()["prefixes"]
    if code in units:
        return _atom(code)
    for count in (1, 2):
        prefix, rest = code[:count], code[count:]
        if prefix in prefixes and units.get(rest, {}).get("metric"):
            inner = _atom(rest)
            return Unit(Fraction(prefixes[prefix]) * inner.factor, inner.dimensions)
    raise _Unknown


@cache
def _atom(code: str) -> Unit:
    entry = _table()["units"][code]
    if code in _OFFSETS:
        raise _Unknown
    if code == "mol" or "unit" not in entry:
        return Unit(Fraction(1), ((code, 1),))
    inner = _Reader(entry["unit"]).whole()
    return Unit(Fraction(entry["value"]) * inner.factor, inner.dimensions)


@cache
def _table() -> Mapping[str, Any]:
    found: Mapping[str, Any] = orjson.loads((files("terminology") / "data" / "ucum.json").read_bytes())
    return found
