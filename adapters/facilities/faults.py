"""Make facilities misbehave as real ones do, seeded: the same seed spoils the same messages.

In:      a seed, a rate (part of all messages), the channel and number of a message
Out:     the Fault it suffers, or None; spoil() applies those that change bytes
Shape:   changed bytes (malformed, wrong card, no commune, NFD, LF, unknown code, BOM) and changed behaviour
         (duplicate, late, cut), which traffic.py carries out
Source:  faults that the checks of live claim systems and interface engines meet (docs/adr/0040)
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

from adapters.facilities.dice import Wheel, dice
from adapters.facilities.registry import Feed


class Fault(StrEnum):
    DUPLICATE = "duplicate"
    LATE = "late"
    CUT = "cut"
    MALFORMED = "malformed"
    WRONG_CARD = "wrong-card"
    NO_COMMUNE = "no-commune"
    NFD = "nfd"
    LF = "lf"
    UNKNOWN_CODE = "unknown-code"
    BOM = "bom"


BEHAVIOUR: Final = frozenset({Fault.DUPLICATE, Fault.LATE, Fault.CUT})
"""Faults of sending; the bytes stay as they are."""

_WHEELS: Final[Mapping[Feed, Wheel]] = {
    "hl7v2": Wheel(
        "duplicate:20 late:15 cut:10 malformed:12 wrong-card:10 no-commune:8 nfd:8 lf:6 unknown-code:8 bom:3"
    ),
    "fhir": Wheel("duplicate:25 late:15 cut:8 malformed:15 wrong-card:10 no-commune:8 nfd:8 unknown-code:8 bom:3"),
    "claim_xml": Wheel(
        "duplicate:25 late:15 cut:8 malformed:15 wrong-card:10 no-commune:10 nfd:8 unknown-code:6 bom:8"
    ),
}

_CARD: Final = re.compile(r"(?:(?<=%7C)|\b)[A-Z]{2}[1-5]01\d{10}\b")
_LOINC: Final = re.compile(r"\b\d{3,5}-\d\b(?=\^|\"|<)")
_COMMUNE_HL7: Final = re.compile(r"\^(?:Phường|Xã|Thị trấn) [^^|\r]*(?=\^)|~MAXA_CU_TRU\^\d{5}")
_COMMUNE_JSON: Final = re.compile(r'(?:Phường|Xã|Thị trấn) [^,"]*, |"city":"[^"]*",|,?\{"url":"MAXA_CU_TRU"[^}]*\}')
_COMMUNE_XML: Final = re.compile(r"<MAXA_CU_TRU>[^<]*</MAXA_CU_TRU>")


@dataclass(frozen=True, slots=True)
class Faults:
    """rate 0 is a perfect city; 0.01, the default, shows operators about one spoilt message in a hundred."""

    seed: int
    rate: float = 0.01

    def of(self, feed: Feed, control_id: str) -> Fault | None:
        if self.rate <= 0:
            return None
        random = dice(self.seed, "fault", control_id)
        if random.random() >= self.rate:
            return None
        return Fault(_WHEELS[feed].turn(random))

    def random(self, control_id: str) -> Random:
        """For details of a fault: which place to cut, how late."""
        return dice(self.seed, "fault detail", control_id)


def spoil(payload: bytes, feed: Feed, fault: Fault, random: Random) -> bytes:
    """The payload after a fault of bytes; unchanged by faults of behaviour, and by those of claim tables."""
    if fault in BEHAVIOUR:
        return payload
    if fault is Fault.BOM:
        return b"\xef\xbb\xbf" + payload
    if fault is Fault.LF:
        return payload.replace(b"\r", b"\n")
    if fault is Fault.MALFORMED:
        return _malformed(payload, feed, random)
    return payload if feed == "claim_xml" else _retyped(payload.decode(), feed, fault).encode()


def spoil_table(text: str, fault: Fault) -> str:
    """One table of a claim file after a fault of text."""
    return text if fault in BEHAVIOUR | {Fault.BOM, Fault.LF, Fault.MALFORMED} else _retyped(text, "claim_xml", fault)


def _malformed(payload: bytes, feed: Feed, random: Random) -> bytes:
    """HL7: the PID segment loses its separators; JSON and XML: the end of the document is missing."""
    if feed == "hl7v2":
        return payload.replace(b"\rPID|", b"\rP I D ", 1)
    return payload[: random.randrange(len(payload) // 4, len(payload) * 3 // 4)]


def _retyped(text: str, feed: Feed, fault: Fault) -> str:
    if fault is Fault.NFD:
        return unicodedata.normalize("NFD", text)
    if fault is Fault.WRONG_CARD:
        return _CARD.sub(lambda match: "ZZ9" + match[0][3:-1] + "X", text)
    if fault is Fault.UNKNOWN_CODE:
        return _LOINC.sub("99999-X", text) if feed != "claim_xml" else text.replace("<MA_NHOM>", "<MA_NHOM>9")
    if feed == "hl7v2":
        return _COMMUNE_HL7.sub(lambda match: "^" if match[0][0] == "^" else "", text)
    return _COMMUNE_JSON.sub("", text) if feed == "fhir" else _COMMUNE_XML.sub("<MAXA_CU_TRU/>", text)
