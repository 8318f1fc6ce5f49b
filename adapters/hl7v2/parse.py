"""Turn the bytes of one HL7 v2 message into a Message that mappers can read, or say exactly why it is none.

In:      payload of one MLLP block: v2.1 to v2.8, segments ended by CR, LF or CRLF, a byte order mark tolerated
Out:     Message
Charset: MSH-18, else UTF-8; bytes that are not in the declared set are refused with their path, never replaced
Errors:  Malformed     no MSH, two MSH, a line that is no segment        (AR)
         Invalid       undecodable bytes                                 (AE)
         NotSupported  a character set we do not know, a batch           (AR)
         TooMuch       more segments or values than a message can need   (AR)
Why:     the hl7 library reads a message with LF separators as one segment, without error, and PID is gone; it raises
         IndexError or AssertionError on short headers. Both end here.
Source:  HL7 v2.5.1 2.5 (message structure), 2.7 (escape sequences), 2.15.9.18 and table 0211 (character sets)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import hl7

from adapters.hl7v2.message import Message
from ehr import limits
from ehr.errors import Invalid, Malformed, NotSupported, TooMuch
from ehr.fhir.primitives import CONTROL

BOM: Final = b"\xef\xbb\xbf"

CHARSETS: Final[Mapping[str, str]] = {
    "": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/15": "iso8859-15",
    "CP1252": "cp1252",
    "WINDOWS-1252": "cp1252",
    "CP1258": "cp1258",
    "WINDOWS-1258": "cp1258",
}
_LIBRARY_ERRORS: Final = (hl7.HL7Exception, IndexError, KeyError, ValueError, AssertionError, TypeError)
_SEGMENT_START: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_LINE_END: Final = re.compile(r"\r\n|\n(?=[A-Z][A-Z0-9]{2}\W)|\n+\Z")


def parse(payload: bytes) -> Message:
    """Read one message; every fault of the input is an EhrError."""
    body = payload.removeprefix(BOM).lstrip(b"\r\n\t ")
    if body.startswith((b"FHS", b"BHS")):
        raise NotSupported("a batch is not read here: send each message in a block of its own", at=body[:3].decode())
    if not body.startswith(b"MSH"):
        raise Malformed("a message starts with MSH", at="MSH")
    charset = _charset(body)
    text = _LINE_END.sub("\r", _decoded(body, charset)).strip("\r\n")
    if found := CONTROL.search(text):
        raise Malformed(f"a control character (U+{ord(found[0]):04X}) in the message", at="MSH")
    lines = [line.rstrip(" \t") for line in text.split("\r") if line.strip()]
    _check_lines(lines)
    lines[0] = _with_sane_separators(lines[0])
    values = sum(text.count(separator) for separator in set(lines[0][3:8]))
    if values > limits.hl7_values_max:
        raise TooMuch(f"the message has {values} separators, the limit is {limits.hl7_values_max}", at="MSH")
    try:
        return Message.of("\r".join(lines).strip(), charset)
    except _LIBRARY_ERRORS as error:
        raise Malformed("the header does not say how to read the message", at="MSH-2") from error


def _check_lines(lines: list[str]) -> None:
    if len(lines) > limits.hl7_segments_max:
        raise TooMuch(f"the message has {len(lines)} segments, the limit is {limits.hl7_segments_max}", at="MSH")
    header = lines[0]
    if len(header) < 8 or header[3].isalnum() or header[3].isspace():
        raise Malformed("MSH-1 and MSH-2 name the separators", at="MSH-1")
    for number, line in enumerate(lines, start=1):
        if not _SEGMENT_START.match(line) or (len(line) > 3 and line[3] != header[3]):
            raise Malformed(f"line {number} of the message is not a segment", at=f"line {number}")
        if number > 1 and line[:3] in ("MSH", "BHS", "FHS"):
            raise Malformed(f"line {number}: a second message in one block", at="MSH[2]")


def _with_sane_separators(header: str) -> str:
    """MSH-2 with its escape character doubled, as some exports write it, is the usual MSH-2.

    Read literally it would name the same character for escape and sub-component, and nothing could be unescaped.
    """
    field = header[3]
    encoding = header[4:].split(field, 1)[0]
    if len(encoding) > 3 and len(set(encoding[:4])) < 4:
        deduplicated = "".join(dict.fromkeys(encoding))
        if len(deduplicated) < 4:
            raise Malformed("MSH-2 names one character for two purposes", at="MSH-2")
        return header[:4] + deduplicated + header[4 + len(encoding) :]
    if any(sign.isalnum() or sign.isspace() for sign in encoding) or field in encoding or len(encoding) < 1:
        raise Malformed("MSH-2 holds something other than separators", at="MSH-2")
    return header


def _charset(body: bytes) -> str:
    declared = ""
    fields = _header_fields(body)
    if len(fields) > 17:
        # the repetition separator of MSH-2; only the first repetition tells the set of the message
        repetition = fields[1][1:2] or b"~"
        declared = fields[17].split(repetition)[0].split(fields[1][:1] or b"^")[0].decode("ascii", "replace").strip()
    charset = CHARSETS.get(declared.upper().replace("_", " "))
    if charset is None:
        raise NotSupported("the character set of MSH-18 is not known here", at="MSH-18")
    return charset


def _header_fields(body: bytes) -> list[bytes]:
    """MSH split at its field separator; [1] is MSH-2, so [n - 1] is MSH-n."""
    line = re.split(rb"[\r\n]", body, maxsplit=1)[0]
    return line.split(line[3:4]) if len(line) > 3 else [line]


def _decoded(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset)
    except UnicodeDecodeError as error:
        at = _place(body, error.start)
        raise Invalid(f"bytes that are not {charset}; declare the character set in MSH-18", at=at) from error


def _place(body: bytes, offset: int) -> str:
    """The HL7 path of one byte: "PID-5", or "OBX[2]-5"."""
    before = re.split(rb"[\r\n]+", body[:offset])
    line = before[-1]
    name = line[:3].decode("ascii", "replace")
    earlier = sum(1 for other in before[:-1] if other[:3] == line[:3])
    field = line.count(body[3:4]) + (1 if name == "MSH" else 0)
    return (name if not earlier else f"{name}[{earlier + 1}]") + f"-{field}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the ledger needs to know of a message before it is read, as far as the header can be understood."""

    control_id: str
    kind: str
    facility: str


def peek(payload: bytes) -> Envelope:
    """Read the envelope of anything; never refuses, because what cannot be read must be kept too."""
    body = payload.removeprefix(BOM).lstrip(b"\r\n\t ")
    if not body.startswith(b"MSH"):
        return Envelope("?", "?", "")
    fields = [field.decode("utf-8", "replace").replace("\0", "") for field in _header_fields(body)[:24]]
    fields += [""] * (24 - len(fields))
    component = fields[1][:1] or "^"
    kind = "^".join(part.strip() for part in fields[8].split(component)[:2]) or "?"
    return Envelope(
        fields[9].strip()[: limits.control_id_characters_max] or "?",
        kind[:40],
        fields[3].split(component)[0].strip()[:64],
    )
