"""Turn HL7 v2 data types into FHIR data types: CX, EI, XPN, XAD, XTN, CWE, NM and their like; DTM: adapters.moments.

In:      Element (one repetition of a field)
Out:     a tree, or None where the sender stated nothing
Units:   a number keeps its digits ("13.50"); a unit keeps its text, and gets a code only where the sender says UCUM
Errors:  none: what cannot be typed is kept as text
Source:  HL7 v2-to-FHIR guide, datatype maps (CX[Identifier], XPN[HumanName], CWE[CodeableConcept], …); HL7 v2.5.1 2.A
"""

import re
from decimal import Decimal
from typing import Final

from adapters import systems
from adapters.draft import Tree
from adapters.hl7v2.message import Element
from ehr.fhir import vietnam

_NUMBER: Final = re.compile(r"([+-]?)(\d*)(\.\d+)?\.?")


def decimal(text: str) -> Decimal | None:
    """NM with its digits as sent; None where the text is not a number.

    JSON knows no leading zeros, no "+" and no bare point: those signs go, no digit of the value does.
    """
    match = _NUMBER.fullmatch(text.strip())
    if not match or not (match[2] or match[3]):
        return None
    whole = match[2].lstrip("0") or "0"
    return Decimal(("-" if match[1] == "-" else "") + whole + (match[3] or ""))


def unit(element: Element, facility_code: str) -> Tree:
    """The unit of a Quantity; a code only where the sender names its system, never guessed."""
    code, text, system = element.text(1), element.text(2), element.text(3)
    if not code and not text:
        return {}
    if system:
        uri = systems.code_system(system, facility_code)
        return {"unit": text or code, **({"system": uri, "code": code} if code and uri else {})}
    return {"unit": code or text}


def concept(element: Element, facility_code: str) -> Tree | None:
    """CE, CWE, CNE, CF as CodeableConcept, original and alternate coding, text as sent."""
    if not element:
        return None
    codings = [
        found
        for code, text, system in ((1, 2, 3), (4, 5, 6), (10, 11, 12))
        if (found := coding(element, facility_code, code, text, system))
    ]
    text = element.component(9) or element.component(2) or element.component(5)
    if not codings and not text:
        text = element.whole().strip()
    result: Tree = {}
    if codings:
        result["coding"] = codings
    if text:
        result["text"] = text
    return result or None


def coding(element: Element, facility_code: str, code: int = 1, text: int = 2, system: int = 3) -> Tree | None:
    value = " ".join(element.component(code).split())
    if not value:
        return None
    result: Tree = {}
    uri = systems.code_system(element.text(system), facility_code)
    if uri:
        result["system"] = uri
    result["code"] = value
    if element.component(text):
        result["display"] = element.component(text)
    return result


def concept_key(tree: Tree) -> str:
    """What a CodeableConcept is about, for a key: its first coding, else its text."""
    for item in tree.get("coding", ()):
        return f"{item.get('system', '')}|{item['code']}"
    return str(tree.get("text", "")).casefold()


AUTHORITY: Final = {"ISO": "urn:oid:", "UUID": "urn:uuid:", "URI": "", "DNS": "https://", "URL": ""}


def authority(element: Element, component: int) -> str | None:
    """HD as identifier system: its universal id, else its name as one of ours."""
    name, universal, kind = (element.text(component, sub) for sub in (1, 2, 3))
    return _universal(universal, kind) or (systems.local("authority:" + name) if name else None)


def entity(element: Element) -> tuple[str, str] | None:
    """EI as (system, value): number^namespace^universal id^type."""
    value = element.text(1)
    if not value:
        return None
    name, universal, kind = element.text(2), element.text(3), element.text(4)
    return _universal(universal, kind) or systems.local("order" + (f":{name}" if name else "")), value


def _universal(id: str, kind: str) -> str | None:
    """A universal id of a known kind as URI."""
    prefix = AUTHORITY.get(kind.upper())
    return prefix + id if id and prefix is not None and not any(sign.isspace() for sign in id) else None


def name(element: Element, *, first: int = 1) -> Tree | None:
    """XPN (first=1) or XCN (first=2) as HumanName. text is the whole name; family comes first, as in Vietnam,

    unless the sender says given name first (name assembly order G).
    """
    family = element.text(first)
    given = [part for part in (element.text(first + 1), element.text(first + 2)) if part]
    suffixes = [part for part in (element.text(first + 3), element.text(first + 5)) if part]
    prefix = element.text(first + 4)
    if not family and not given:
        return None
    order = element.text(11 if first == 1 else 15)
    # Vietnamese: family, middle, given; XPN-3 (further given names) is the middle name
    parts = [*given, family] if order == "G" else [family, *reversed(given)]
    result: Tree = {}
    use = NAME_USE.get(element.text(7 if first == 1 else 10))
    if use:
        result["use"] = use
    result["text"] = " ".join(part for part in parts if part)
    if family:
        result["family"] = family
    if given:
        result["given"] = given
    if prefix:
        result["prefix"] = [prefix]
    if suffixes:
        result["suffix"] = suffixes
    return result


NAME_USE: Final = {
    "L": "official",
    "R": "official",
    "D": "usual",
    "M": "maiden",
    "N": "nickname",
    "BAD": "old",
    "NOUSE": "old",
    "MSK": "anonymous",
    "NAV": "temp",
    "TEMP": "temp",
}
ADDRESS_USE: Final = {"H": "home", "B": "work", "O": "work", "C": "temp", "BA": "old", "BI": "billing", "HOME": "home"}


def address(element: Element) -> Tree | None:
    """XAD: street, other, city, province, code, country, type, other unit (commune), district."""
    result: Tree = {}
    use = ADDRESS_USE.get(element.text(7).upper())
    if use:
        result["use"] = use
    if element.text(7).upper() in ("M", "SH"):
        result["type"] = "postal"
    lines = [part for part in (element.text(1), element.text(2), element.text(8)) if part]
    if lines:
        result["line"] = lines
    for key, number in (("city", 3), ("district", 9), ("state", 4), ("postalCode", 5), ("country", 6)):
        if element.text(number):
            result[key] = element.text(number)
    if not set(result) - {"use", "type"}:
        return None
    whole = [*lines, *(result[key] for key in ("district", "city", "state") if key in result)]
    result["text"] = ", ".join(whole) or result.get("country", result.get("postalCode", ""))
    return result


CONTACT_USE: Final = {"PRN": "home", "WPN": "work", "PRS": "mobile", "HOME": "home", "WORK": "work"}
CONTACT_SYSTEM: Final = {
    "PH": "phone",
    "CP": "phone",
    "FX": "fax",
    "BP": "pager",
    "INTERNET": "email",
    "X.400": "email",
}


def contact(element: Element, use: str | None = None) -> Tree | None:
    """XTN: the number as it would be dialled, or an address; use is that of the field, unless the element says."""
    kind = element.text(3).upper()
    mail = element.text(4)
    number = element.text(12) or element.text(1) or _number(element)
    if kind in ("INTERNET", "X.400") or (mail and not number):
        value, system = mail or number, "email"
    else:
        value, system = number, CONTACT_SYSTEM.get(kind, "phone")
    if not value:
        return None
    result: Tree = {"system": system, "value": value}
    use = "mobile" if kind == "CP" else CONTACT_USE.get(element.text(2).upper(), use)
    if use:
        result["use"] = use
    return result


def _number(element: Element) -> str:
    country, area, local, extension = (element.text(number) for number in (5, 6, 7, 8))
    dialled = " ".join(part for part in ((f"+{country}" if country else ""), area, local) if part)
    return f"{dialled} ext. {extension}" if dialled and extension else dialled


def person_name_key(tree: Tree) -> str:
    """A name for a key: case folded, spaces squeezed."""
    return " ".join(str(tree.get("text", "")).casefold().split())


ICD10_CODE: Final = re.compile(r"[A-TV-Z]\d[0-9A-Z](\.?[0-9A-Z]{1,4})?")


def diagnosis(element: Element, facility_code: str) -> Tree | None:
    """A diagnosis as CodeableConcept: a code without a system that has the form of one is ICD-10, as DG1-2 demands

    of Vietnamese facilities.
    """
    tree = concept(element, facility_code)
    for item in (tree or {}).get("coding", ()):
        if "system" not in item and ICD10_CODE.fullmatch(item["code"]):
            item["system"] = vietnam.ICD_10
    return tree
