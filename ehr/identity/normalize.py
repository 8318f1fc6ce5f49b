"""Names, dates and national numbers as they are written → the form in which they are compared. Pure.

Numbers  CCCD 12 digits · social-insurance number 10 digits, which is also the end of every 15-character card
         (2 letters object group, 1 digit benefit, 2 digits province, 10 digits) · passport letters and digits.
         An old CMND (9 digits) names nobody for sure and links nothing
Names    folded (case, accents, đ), word order forgotten: feeds put the family name first or last
Dates    partial dates agree with what they are a part of; day and month may have changed places
Source:  QĐ 1351/QĐ-BHXH (2015) card structure; NĐ 137/2015 CCCD; `vietnam` 4.1, 4.2
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ehr.fhir.vietnam import INSURANCE_NUMBER, NATIONAL_ID, PASSPORT_NUMBER
from ehr.index.normalize import fold
from ehr.settings import Settings

Kind = Literal["national_id", "passport", "insurance_number"]
ASSURANCE: Final[Mapping[Kind, str]] = {"national_id": "level3", "passport": "level2", "insurance_number": "level2"}
"""How surely a number of the kind says who somebody is (FHIR identity-assuranceLevel)."""

PRIORITY: Final[Mapping[Kind, int]] = {"national_id": 0, "passport": 1, "insurance_number": 2}

_SPACING: Final = re.compile(r"[\s.\-]+")
_CARD: Final = re.compile(r"[A-Z]{2}[0-9]{3}([0-9]{10})")
_PASSPORT: Final = re.compile(r"[A-Z0-9]{6,12}")

_DRAFT: Final = "http://fhir.hl7.org.vn/core/sid/"
_DRAFT_KINDS: Final[Mapping[str, Kind]] = {
    f"{_DRAFT}cccd": "national_id",
    f"{_DRAFT}bhyt": "insurance_number",
    f"{_DRAFT}passport": "passport",
}
"""The draft guide's systems, accepted on input."""


DEFAULT_SYSTEMS: Final[Mapping[Kind, str]] = {
    "national_id": NATIONAL_ID,
    "passport": PASSPORT_NUMBER,
    "insurance_number": INSURANCE_NUMBER,
}


def systems_of(settings: Settings) -> Mapping[Kind, str]:
    """The identifier systems this installation gives its national numbers."""
    return {
        "national_id": settings.sid_national_id,
        "passport": settings.sid_passport,
        "insurance_number": settings.sid_insurance_number,
    }


@dataclass(frozen=True, slots=True)
class Number:
    """A national number. key is what claims hold: the installation's system for the kind, and the canonical value."""

    kind: Kind
    system: str
    value: str

    @property
    def key(self) -> str:
        return f"{self.system}|{self.value}"


class Numbers:
    """Reads national numbers under the identifier systems of this installation."""

    def __init__(self, systems: Mapping[Kind, str] = DEFAULT_SYSTEMS) -> None:
        self._systems = systems
        self._kinds: Mapping[str, Kind] = {**_DRAFT_KINDS, **{system: kind for kind, system in systems.items()}}

    def read(self, system: str, value: str) -> Number | None:
        """The number an identifier states; None when its system is another or its form names nobody."""
        kind = self._kinds.get(system)
        text = _SPACING.sub("", value).upper()
        if kind is None or not text.isascii():
            return None
        if kind == "insurance_number" and len(text) == 12 and text.isdecimal():
            kind = "national_id"  # since 2025 a CCCD is accepted in place of the card
        canonical = _canonical(kind, text)
        return Number(kind, self._systems[kind], canonical) if canonical else None

    def of(self, tree: Mapping[str, Any]) -> list[Number]:
        """The distinct numbers of a Patient or Person, the surest kind first."""
        found = {number.key: number for _, number in self.stated(tree)}
        return sorted(found.values(), key=lambda number: (PRIORITY[number.kind], number.key))

    def stated(self, tree: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Number]]:
        """Identifiers that state a national number, and the number; those marked old are left out."""
        for identifier in tree.get("identifier", ()):
            if identifier.get("use") == "old":
                continue
            number = self.read(str(identifier.get("system", "")), str(identifier.get("value", "")))
            if number is not None:
                yield identifier, number


def _canonical(kind: Kind, text: str) -> str | None:
    match kind:
        case "national_id":
            return text if len(text) == 12 and text.isdecimal() else None
        case "insurance_number":
            card = _CARD.fullmatch(text)
            digits = card[1] if card else text
            return digits if len(digits) == 10 and digits.isdecimal() else None
        case "passport":
            return text if _PASSPORT.fullmatch(text) and any(c.isdecimal() for c in text) else None


def name_words(tree: Mapping[str, Any]) -> tuple[str, ...]:
    """The words of the first usual name, folded and sorted; () when there is none."""
    names = [name for name in tree.get("name", ()) if name.get("use") not in ("old", "nickname", "anonymous")]
    for name in names:
        text = name.get("text") or " ".join([*_texts(name.get("given")), str(name.get("family") or "")])
        words = fold(str(text)).split()
        if words:
            return tuple(sorted(words))
    return ()


def _texts(given: object) -> list[str]:
    return [part for part in given if isinstance(part, str)] if isinstance(given, list) else []


def names_agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Same words, or one of them is not known."""
    first, second = name_words(one), name_words(other)
    return not first or not second or first == second


def births_agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Equal as far as both are known; day and month may be swapped; 1 January stands for "the year only"."""
    first, second = str(one.get("birthDate") or ""), str(other.get("birthDate") or "")
    if first.startswith(second) or second.startswith(first):
        return True
    year, other_year = first[:4], second[:4]
    if year != other_year:
        return False
    if "01-01" in (first[5:], second[5:]):
        return True
    return first[5:7] == second[8:10] and first[8:10] == second[5:7] and bool(first[8:10])


def agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records that state one number can be one human being."""
    return names_agree(one, other) and births_agree(one, other)
