"""Answer one HL7 message: what became of it → ACK bytes.

Out:     MSH, MSA and one ERR per issue; AA applied, AE refused for its content, AR refused as a whole
Keeps:   sender and receiver swapped, MSH-10 in MSA-2, MSH-11, MSH-12 and the character set of the message
Why:     the one answer is the application acknowledgment in both modes: it is sent after the content is durable, so it
         says more than a commit acknowledgment would. It is kept with the message, and a repeat gets the same bytes.
Source:  HL7 v2.5.1 2.9 (acknowledgment), 2.15.8 MSA, 2.15.5 ERR, tables 0008, 0357, 0516
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from adapters.hl7v2.message import Message
from ehr.clock import ICT
from ehr.errors import Acknowledgment, Issue

ERROR_CODES: Final = {
    "structure": ("100", "Segment sequence error"),
    "required": ("101", "Required field missing"),
    "value": ("102", "Data type error"),
    "invalid": ("102", "Data type error"),
    "invariant": ("102", "Data type error"),
    "code-invalid": ("103", "Table value not found"),
    "not-supported": ("200", "Unsupported message type"),
    "unknown-event": ("201", "Unsupported event code"),
    "unknown-processing": ("202", "Unsupported processing id"),
    "not-found": ("204", "Unknown key identifier"),
    "forbidden": ("204", "Unknown key identifier"),
    "duplicate": ("205", "Duplicate key identifier"),
    "conflict": ("206", "Application record locked"),
}
"""FHIR issue type → table 0357; every other is 207, application internal error."""

_SEVERITY: Final = {"fatal": "F", "error": "E", "warning": "W", "information": "I"}
_PATH: Final = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<occurrence>\d+)\])?(?:-(?P<field>\d+)(?:\.(?P<component>\d+))?)?"
)
_ERRORS_MAX: Final = 50
"""ERR segments of one answer; the ledger holds every issue."""


def accept(message: Message, *, number: int, now: datetime) -> bytes:
    """AA: the content is in the record."""
    return _build(message, "AA", (), number=number, now=now)


def refuse(
    message: Message | None,
    code: Acknowledgment,
    issues: Sequence[Issue],
    *,
    number: int,
    now: datetime,
    control_id: str = "",
) -> bytes:
    """AE or AR with the reasons; message is None where not even the header could be read."""
    assert code != "AA", "a refusal is AE or AR"
    return _build(message, code, issues, number=number, now=now, control_id=control_id)


def _build(
    message: Message | None,
    code: Acknowledgment,
    issues: Sequence[Issue],
    *,
    number: int,
    now: datetime,
    control_id: str = "",
) -> bytes:
    stamp = now.astimezone(ICT).strftime("%Y%m%d%H%M%S+0700")
    fields = ["", "", "", "", stamp, "", "ACK", f"ACK{number}", "P", "2.5.1", "", "", "", "", "", "UNICODE UTF-8"]
    charset = "utf-8"
    if message is not None:
        header = message.header
        charset = message.charset
        control_id = header.text(10)
        event = header.text(9, 2)
        fields[0:4] = [_field(header.text(number)) for number in (5, 6, 3, 4)]
        fields[6] = "ACK" + (f"^{_field(event)}" if event else "") + ("^ACK" if event else "")
        fields[8] = _field(header.text(11)) or "P"
        fields[9] = _field(header.text(12)) or "2.5.1"
        fields[15] = _field(header.text(18)) if header.text(18) else ("UNICODE UTF-8" if charset == "utf-8" else "")
    segments = ["MSH|^~\\&|" + "|".join(fields), f"MSA|{code}|{_field(control_id)}"]
    segments += [_error_segment(issue) for issue in issues[:_ERRORS_MAX]]
    return ("\r".join(segments) + "\r").encode(charset, errors="replace")


def _error_segment(issue: Issue) -> str:
    code, text = ERROR_CODES.get(issue.code, ("207", "Application internal error"))
    location = ""
    match = _PATH.fullmatch(issue.at or "")
    note = issue.text
    if match:
        parts = [match["segment"], match["occurrence"] or "1", match["field"] or "", "1" if match["component"] else ""]
        location = "^".join([*parts, match["component"] or ""]).rstrip("^")
    elif issue.at:
        note = f"{issue.at}: {note}"
    # ERR-1 is deprecated, ERR-5 and ERR-6 are ours to leave empty, ERR-7 is for the log and ERR-8 for the user
    return f"ERR||{location}|{code}^{text}^HL70357|{_SEVERITY[issue.severity]}|||{_field(note)}|{_field(note)}"


def _field(text: str) -> str:
    """Text as one field: separators escaped, no line end can start a segment of its own."""
    for sign, escaped in (("\\", "\\E\\"), ("|", "\\F\\"), ("^", "\\S\\"), ("&", "\\T\\"), ("~", "\\R\\")):
        text = text.replace(sign, escaped)
    return "".join(" " if ord(letter) < 32 else letter for letter in text)[:500]
