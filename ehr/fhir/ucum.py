"""A UCUM unit → how many base units it is, and of what dimension.

In:      code of a unit: "mg/dL", "m2", "[in_i]", "10*3/uL", "{score}"
Out:     measured(value, unit): the value in base units, and its dimension, equal for what can be compared;
         None for a unit that is not in the tables here
         product, quotient: the code of a unit made of two
Keeps:   decimals; arbitrary units ([IU]) and logarithms (pH) are dimensions of their own, as UCUM has it
Source:  the Unified Code for Units of Measure 2.1: the units of medicine and all they are built of
"""

import re
from collections import Counter
from decimal import Context, Decimal
from functools import cache, lru_cache
from typing import Final

Dimension = frozenset[tuple[str, int]]
"""Base unit and its exponent."""

_CONTEXT: Final = Context(prec=34, traps=[])
_EXPONENT_MAX: Final = 30
_CODE_CHARACTERS_MAX: Final = 128

_PREFIXES: Final = dict(
    zip("Y Z E P T G M k h da".split(), (24, 21, 18, 15, 12, 9, 6, 3, 2, 1), strict=True),  # noqa: SIM905
    **dict(zip("dcmunpfazy", (-1, -2, -3, -6, -9, -12, -15, -18, -21, -24), strict=True)),
)
"""Prefix → power of ten."""

_BASE: Final = ("m", "s", "g", "rad", "K", "C", "cd")

_METRIC: Final = {
    "mol": "6.0221367 10*23",
    "sr": "1 rad2",
    "Hz": "1 /s",
    "N": "1000 g.m/s2",
    "Pa": "1 N/m2",
    "J": "1 N.m",
    "W": "1 J/s",
    "A": "1 C/s",
    "V": "1 J/C",
    "F": "1 C/V",
    "Ohm": "1 V/A",
    "S": "1 /Ohm",
    "Wb": "1 V.s",
    "T": "1 Wb/m2",
    "H": "1 Wb/A",
    "lm": "1 cd.sr",
    "lx": "1 lm/m2",
    "Bq": "1 /s",
    "Gy": "1 J/kg",
    "Sv": "1 J/kg",
    "Ci": "37000000000 Bq",
    "R": "0.000258 C/kg",
    "l": "1 dm3",
    "L": "1 dm3",
    "t": "1000 kg",
    "bar": "100000 Pa",
    "u": "1.6605402e-24 g",
    "eV": "1.60217733e-19 J",
    "pc": "30856780000000000 m",
    "eq": "1 mol",
    "osm": "1 mol",
    "kat": "1 mol/s",
    "U": "1 umol/min",
    "cal": "4.184 J",
    "cal_th": "4.184 J",
    "dyn": "0.00001 N",
    "erg": "0.0000001 J",
    "P": "1 dyn.s/cm2",
    "g%": "1 g/dL",
    "m[H2O]": "9806.65 Pa",
    "m[Hg]": "133322 Pa",
}
"""Units that take a prefix: how many of which."""

_OTHER: Final = {
    "10*": "10 1",
    "10^": "10 1",
    "[pi]": "3.141592653589793238462643383279503 1",
    "%": "0.01 1",
    "[ppth]": "0.001 1",
    "[ppm]": "0.000001 1",
    "[ppb]": "0.000000001 1",
    "min": "60 s",
    "h": "3600 s",
    "d": "86400 s",
    "wk": "604800 s",
    "a": "31557600 s",
    "a_j": "31557600 s",
    "mo": "2629800 s",
    "mo_j": "2629800 s",
    "deg": "0.01745329251994329576923690768488613 rad",
    "'": "0.0002908882086657215961539484614147688 rad",
    "''": "0.000004848136811095359935899141023579479 rad",
    "atm": "101325 Pa",
    "ar": "100 m2",
    "st": "1 m3",
    "[in_i]": "2.54 cm",
    "[in_us]": "2.540005080010160020320040640081280 cm",
    "[ft_i]": "30.48 cm",
    "[yd_i]": "91.44 cm",
    "[mi_i]": "160934.4 cm",
    "[nmi_i]": "1852 m",
    "[sin_i]": "6.4516 cm2",
    "[cin_i]": "16.387064 cm3",
    "[lb_av]": "453.59237 g",
    "[oz_av]": "28.349523125 g",
    "[dr_av]": "1.7718451953125 g",
    "[gr]": "0.06479891 g",
    "[stone_av]": "6350.29318 g",
    "[lb_tr]": "373.2417216 g",
    "[oz_tr]": "31.1034768 g",
    "[gal_us]": "3785.411784 cm3",
    "[qt_us]": "946.352946 cm3",
    "[pt_us]": "473.176473 cm3",
    "[cup_us]": "236.5882365 cm3",
    "[foz_us]": "29.5735295625 cm3",
    "[tbs_us]": "14.78676478125 cm3",
    "[tsp_us]": "4.92892159375 cm3",
    "[gal_br]": "4546.09 cm3",
    "[pt_br]": "568.26125 cm3",
    "[foz_br]": "28.4130625 cm3",
    "[cup_m]": "240 cm3",
    "[tbs_m]": "15 cm3",
    "[tsp_m]": "5 cm3",
    "[drp]": "0.05 cm3",
    "[lbf_av]": "4.4482216152605 N",
    "[psi]": "6894.757293168361336722673445346891 Pa",
    "[Cal]": "4184 J",
    "[Btu]": "1055.05585262 J",
    "[HP]": "745.699871582270220177617 W",
    "[kn_i]": "1852 m/h",
    "[Ch]": "0.3333333333333333333333333333333333 mm",
    "[diop]": "1 /m",
    "[mesh_i]": "1 /[in_i]",
    "[car_m]": "0.2 g",
    "[in_i'H2O]": "249.08891 Pa",
    "[in_i'Hg]": "3386.3788 Pa",
    "[m/s2/Hz^0.5]": "1 m/s2",
    "[g]": "9.80665 m/s2",
    "[c]": "299792458 m/s",
}
"""Units that take none."""

_ARBITRARY_METRIC: Final = frozenset({"[iU]", "[IU]", "B", "Np", "bit", "By"})
_ARBITRARY: Final = frozenset(
    """[arb'U] [USP'U] [GPL'U] [MPL'U] [APL'U] [beth'U] [anti'Xa'U] [todd'U] [dye'U] [smgy'U] [bdsk'U] [ka'U] [knk'U]
    [mclg'U] [tb'U] [CCID_50] [TCID_50] [EID_50] [PFU] [FFU] [CFU] [IR] [BAU] [AU] [Amb'a'1'U] [PNU] [Lf] [D'ag'U]
    [FEU] [ELU] [EU] [hnsf'U] [MET] [S] [HPF] [LPF] [pH] [h'DP] [c'LP] [hp'_C] [hp'_X]""".split()  # noqa: SIM905
)
_SAME: Final = {"[IU]": "[iU]"}
_OFFSETS: Final = {"Cel": (Decimal(1), Decimal("273.15")), "[degF]": (Decimal(5) / Decimal(9), Decimal("459.67"))}
"""Degrees: kelvin = factor × (degrees + offset)."""

_TOKEN: Final = re.compile(
    r"(?P<note>\{[^{}]*\})|(?P<open>\()|(?P<close>\))|(?P<times>[./])|(?P<term>(?:\[[^\[\]]*\]|[^\s./(){}\[\]])+)"
)
_TERM: Final = re.compile(r"(?P<unit>10[*^]|.*?[^\d+-])?(?P<exponent>[+-]?\d+)?", re.DOTALL)


def measured(value: Decimal, unit: str) -> tuple[Decimal, Dimension] | None:
    if unit in _OFFSETS:
        factor, offset = _OFFSETS[unit]
        scale = factor, _base("K")
        value = _CONTEXT.add(value, offset)
    elif (found := _scale(unit)) is not None:
        scale = found
    else:
        return None
    whole = _CONTEXT.multiply(value, scale[0]).normalize(_CONTEXT)
    return (whole, scale[1]) if whole.is_finite() else None


def product(left: str, right: str) -> str:
    return right if left == "1" else left if right == "1" else f"{left}.{_grouped(right)}"


def quotient(left: str, right: str) -> str:
    return left if right == "1" else f"{left}/{_grouped(right)}"


def _grouped(unit: str) -> str:
    return f"({unit})" if "/" in unit or "." in unit else unit


class _Unknown(Exception):
    """The unit is not in the tables, or its code cannot be read."""


_Scale = tuple[Decimal, Dimension]


@lru_cache(maxsize=4096)
def _scale(unit: str) -> _Scale | None:
    """Base units in one, and their dimension."""
    if not unit or len(unit) > _CODE_CHARACTERS_MAX:
        return None
    try:
        return _Reader(unit).all()
    except _Unknown:
        return None


class _Reader:
    """Reads terms from left to right; UCUM has no precedence, only parentheses."""

    def __init__(self, unit: str) -> None:
        self.tokens = list(_TOKEN.finditer(unit))
        if "".join(token[0] for token in self.tokens) != unit:
            raise _Unknown
        self.position = 0

    def all(self) -> _Scale:
        found = self.terms()
        if self.position < len(self.tokens):
            raise _Unknown
        return found

    def kind(self) -> str:
        return str(self.tokens[self.position].lastgroup) if self.position < len(self.tokens) else "end"

    def take(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1][0]

    def terms(self) -> _Scale:
        factor, dimension = (Decimal(1), frozenset()) if self.peek("/") else self.component()
        while self.kind() == "times":
            sign = 1 if self.take() == "." else -1
            factor, dimension = _times((factor, dimension), self.component(), sign)
        return factor, dimension

    def peek(self, text: str) -> bool:
        return self.position < len(self.tokens) and self.tokens[self.position][0] == text

    def component(self) -> _Scale:
        if self.kind() == "note":
            self.take()
            return Decimal(1), frozenset()
        if self.kind() == "open":
            self.take()
            found = self.terms()
            if self.kind() != "close":
                raise _Unknown
            self.take()
            return found
        if self.kind() != "term":
            raise _Unknown
        found = _term(self.take())
        if self.kind() == "note":
            self.take()
        return found


def _term(text: str) -> _Scale:
    match = _TERM.fullmatch(text)
    if match is None:
        raise _Unknown
    if not match["unit"]:
        return Decimal(match["exponent"]), frozenset()
    exponent = int(match["exponent"] or 1)
    if abs(exponent) > _EXPONENT_MAX or exponent == 0:
        raise _Unknown
    factor, dimension = _unit(match["unit"])
    return _CONTEXT.power(factor, exponent), frozenset((base, power * exponent) for base, power in dimension)


@cache
def _known(code: str) -> _Scale | None:
    """A unit of the tables as it stands, without a prefix."""
    if code in _BASE or code in _ARBITRARY or code in _ARBITRARY_METRIC:
        return Decimal(1), _base(_SAME.get(code, code))
    definition = _METRIC.get(code) or _OTHER.get(code)
    if definition is None:
        return None
    number, unit = definition.split(" ")
    if unit == "10*23":
        return Decimal(number).scaleb(23), frozenset()
    factor, dimension = _Reader(unit).all()
    return _CONTEXT.multiply(Decimal(number), factor), dimension


def _unit(code: str) -> _Scale:
    found = _known(code)
    if found is not None:
        return found
    for length in (2, 1):
        prefix, rest = code[:length], code[length:]
        if prefix in _PREFIXES and (rest in _BASE or rest in _METRIC or rest in _ARBITRARY_METRIC):
            known = _known(rest)
            assert known is not None
            return known[0].scaleb(_PREFIXES[prefix]), known[1]
    raise _Unknown


def _base(code: str) -> Dimension:
    return frozenset({(code, 1)})


def _times(left: _Scale, right: _Scale, sign: int) -> _Scale:
    exponents = Counter(dict(left[1]))
    for base, power in right[1]:
        exponents[base] += sign * power
    factor = _CONTEXT.multiply(left[0], right[0]) if sign > 0 else _CONTEXT.divide(left[0], right[0])
    return factor, frozenset((base, power) for base, power in exponents.items() if power)


SECOND: Final = _base("s")
