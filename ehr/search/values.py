"""The text after "=" → typed values of one parameter.

In:      decoded text; "," "|" "$" and "\\" may be escaped with "\\"
Out:     Value per comma
Errors:  BadSearch naming the parameter: not a date, not a number, a prefix where none is allowed
         TooMuch: more values than limits.search_values_max
Source:  FHIR R4 3.1.1.4 (types, prefixes, escaping)
"""

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from types import MappingProxyType
from typing import Final, cast

from ehr import limits
from ehr.errors import BadSearch, NotSupported, TooMuch
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.references import LOCAL
from ehr.ids import FHIR_ID
from ehr.index.ranges import date_range
from ehr.search.terms import (
    CompositeValue,
    DateValue,
    NearValue,
    NumberValue,
    Prefix,
    ReferenceValue,
    StringValue,
    TokenValue,
    TypedIdentifierValue,
    UriValue,
    Value,
)
from terminology.ucum import unit_of

_PREFIXED: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(?=[\d+\-.])", re.ASCII)
_NUMBER: Final = re.compile(r"[+\-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+\-]?\d{1,3})?", re.ASCII)
DIGITS_MAX: Final = 40
APPROXIMATE: Final = Decimal("0.1")
"""ap: within a tenth."""
NEAR_METRES: Final = 10_000.0
"""How far near reaches where the client does not say."""
_UNSTORABLE: Final = re.compile("[\\x00\\ud800-\\udfff]")


def split(text: str, separator: str) -> list[str]:
    """Cut at separators that are not escaped; escapes stay for the next level."""
    if "\\" not in text:
        return text.split(separator)
    parts, current, position = [], "", 0
    while position < len(text):
        if text[position] == "\\" and position + 1 < len(text):
            current += text[position : position + 2]
            position += 2
            continue
        if text[position] == separator:
            parts.append(current)
            current = ""
        else:
            current += text[position]
        position += 1
    return [*parts, current]


def unescape(text: str) -> str:
    return text if "\\" not in text else re.sub(r"\\([\\,$|])", r"\1", text)


def alternatives(text: str, at: str) -> list[str]:
    """The comma separated values, still escaped."""
    if _UNSTORABLE.search(text):
        raise BadSearch("NUL and lone surrogates are not text", at=at)
    parts = [part for part in split(text, ",") if part]
    if not parts:
        raise BadSearch("the parameter has no value", at=at)
    if len(parts) > limits.search_values_max:
        raise TooMuch(f"more than {limits.search_values_max} values", at=at)
    return parts


def token(text: str, at: str) -> TokenValue:
    parts = split(text, "|")
    if len(parts) == 1:
        return TokenValue(None, unescape(parts[0]))
    if len(parts) > 2:
        raise BadSearch("a token is code, system|code, |code or system|", at=at)
    system, code = unescape(parts[0]), unescape(parts[1])
    if not system and not code:
        raise BadSearch("a token needs a system or a code", at=at)
    return TokenValue(system, code or None)


def of_type(text: str, at: str) -> TypedIdentifierValue:
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise BadSearch(":of-type is system|code|value", at=at)
    return TypedIdentifierValue(*parts)


def near(text: str, at: str) -> NearValue:
    """latitude|longitude|distance|units; kilometres where no units are given."""
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) not in {2, 3, 4}:
        raise BadSearch("a place is latitude|longitude|distance|units", at=at)
    latitude, longitude = number(parts[0], at).number, number(parts[1], at).number
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise BadSearch("a latitude is -90 to 90, a longitude -180 to 180", at=at)
    if len(parts) == 2 or not parts[2]:
        return NearValue(latitude, longitude, NEAR_METRES)
    unit, metre = unit_of(parts[3] if len(parts) == 4 and parts[3] else "km"), unit_of("m")
    assert metre is not None, "UCUM has a metre"
    distance = number(parts[2], at).number
    if unit is None or unit.dimensions != metre.dimensions or not 0 <= distance <= 1e9:
        raise BadSearch("a distance is a number of km, m, [mi_us] or another UCUM unit of length", at=at)
    return NearValue(latitude, longitude, float(unit.to(metre, Fraction(repr(distance)))))


def string(text: str, at: str) -> StringValue:  # noqa: ARG001 - every reader has the same shape
    return StringValue(unescape(text))


def uri(text: str, at: str) -> UriValue:  # noqa: ARG001
    return UriValue(unescape(text))


def prefixed(text: str) -> tuple[Prefix, str]:
    found = _PREFIXED.match(text)
    return (cast("Prefix", found[1]), text[2:]) if found else ("eq", text)


def date(text: str, at: str, *, internal: bool = False) -> DateValue:
    """internal: _filter says it, which has one prefix more."""
    prefix, plain = prefixed(text)
    if internal and text.startswith("po"):
        prefix, plain = "po", text[2:]
    plain = plain.replace(" ", "+")  # a "+07:00" that nobody percent-encoded
    found = date_range(plain)
    if found is None:
        raise BadSearch("a date is YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss[.fff]][zone]", at=at)
    return DateValue(prefix, *found)


def number(text: str, at: str) -> NumberValue:
    prefix, plain = prefixed(text)
    if len(plain) > DIGITS_MAX or _NUMBER.fullmatch(plain) is None:
        raise BadSearch("this is not a number", at=at)
    try:
        exact = Decimal(plain)
    except InvalidOperation as error:
        raise BadSearch("this is not a number", at=at) from error
    exponent = exact.as_tuple().exponent
    assert isinstance(exponent, int)
    half = abs(exact) * APPROXIMATE if prefix == "ap" else Decimal(5).scaleb(exponent - 1)
    if not math.isfinite(float(exact + half)) or not math.isfinite(float(exact - half)):
        raise BadSearch("this number is too great", at=at)
    return NumberValue(prefix, float(exact), float(exact - half), float(exact + half))


def quantity(text: str, at: str) -> NumberValue:
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) not in {1, 3}:
        raise BadSearch("a quantity is number, number|system|code or number||code", at=at)
    found = number(parts[0], at)
    system, code = (parts[1] or None, parts[2] or None) if len(parts) == 3 else (None, None)
    return NumberValue(found.prefix, found.number, found.low, found.high, system, code)


_READERS: Final[Mapping[str, Callable[[str, str], Value]]] = MappingProxyType(
    {
        "token": token,
        "string": string,
        "uri": uri,
        "date": date,
        "number": number,
        "quantity": quantity,
        "special": near,
    }
)


def read(parameter: Parameter, text: str, at: str, *, target: str | None = None) -> Value:
    """One value of a parameter; target: the type a reference's :[type] modifier names."""
    if parameter.kind == "reference":
        return reference(parameter, text, at, target)
    if parameter.kind == "composite":
        return composite(parameter, text, at)
    reader = _READERS.get(parameter.kind)
    if reader is None:
        raise NotSupported(f"parameters of type {parameter.kind} are not served", at=at)
    return reader(text, at)


def reference(parameter: Parameter, text: str, at: str, target: str | None) -> ReferenceValue:
    """id, Type/id, or a url; an id alone may be of any type the parameter points to. A canonical url may be relative
    too, and is kept as it is written."""
    plain, has_urls = unescape(text), any(path.type == "canonical" for path in parameter.paths)
    if has_urls and target is not None and FHIR_ID.fullmatch(plain):
        plain = f"{target}/{plain}"
    if found := LOCAL.fullmatch(plain):
        if found[1] not in TYPE_IDS:
            raise BadSearch("there is no such resource type", at=at)
        if target not in {None, found[1]} or (parameter.only not in {None, found[1]}):
            return ReferenceValue()
        return ReferenceValue(((found[1], found[2]),), plain if has_urls else None)
    if target is not None and plain.endswith(f"/{target}/{plain.rpartition('/')[2]}") and ":" in plain:
        return ReferenceValue(uri=plain)
    if target is not None or FHIR_ID.fullmatch(plain):
        if not FHIR_ID.fullmatch(plain):
            raise BadSearch("a reference is id, Type/id or an absolute url", at=at)
        types = [target] if target else sorted(parameter.targets)
        if types == ["*"]:
            raise BadSearch("this reference may point to any type: say Type/id", at=at)
        return ReferenceValue(tuple((name, plain) for name in types))
    if ":" not in plain and not has_urls:
        raise BadSearch("a reference is id, Type/id or an absolute url", at=at)
    return ReferenceValue(uri=plain)


def at_home(parameter: Parameter, value: Value, base: str) -> Value:
    """A reference by the address it has here is the reference Type/id (R4 3.1.1.4.12); a canonical url stays one."""
    if not isinstance(value, ReferenceValue) or value.uri is None or not value.uri.startswith(f"{base}/"):
        return value
    found = LOCAL.fullmatch(value.uri[len(base) + 1 :])
    if found is None or found[1] not in TYPE_IDS or parameter.only not in {None, found[1]}:
        return value
    kept = value.uri if any(path.type != "Reference" for path in parameter.paths) else None
    return ReferenceValue(((found[1], found[2]),), kept)


def composite(parameter: Parameter, text: str, at: str) -> CompositeValue:
    parts = split(text, "$")
    if len(parts) != len(parameter.components):
        raise BadSearch(f"this composite has {len(parameter.components)} parts separated by $", at=at)
    known = parameters.of(parameter.type_name)
    found = tuple(
        read(known[component.code], part, at) for component, part in zip(parameter.components, parts, strict=True)
    )
    return CompositeValue(found)
