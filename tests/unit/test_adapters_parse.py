"""HL7 parsing and acknowledgment: a message is read whole, or refused with its path; nothing else escapes."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.hl7v2 import ack
from adapters.hl7v2.message import Message
from adapters.hl7v2.parse import parse, peek
from adapters.hl7v2.route import bundle_of
from adapters.port import Origin
from ehr.errors import EhrError, Invalid, Issue, Malformed, NotSupported, TooMuch

HEADER = "MSH|^~\\&|HIS|01Z01|EHR|HANOI|20261123080000+0700||ADT^A01^ADT_A01|M1|P|2.5.1||||||UNICODE UTF-8"
PID = "PID|1||42^^^01Z01^PI||Nguyễn^An^Văn||19800101|M"
NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)


def message(*segments: str, end: str = "\r", charset: str = "utf-8") -> bytes:
    return (end.join(segments) + end).encode(charset)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf", b"\r\n"])
def test_pid_is_found_whatever_ends_the_segments(end: str, prefix: bytes) -> None:
    parsed = parse(prefix + message(HEADER, PID, end=end))
    assert [segment.name for segment in parsed.segments] == ["MSH", "PID"]
    assert parsed.all("PID")[0].text(5) == "Nguyễn"


def test_a_message_without_a_last_line_end_is_whole() -> None:
    assert parse(message(HEADER, PID)[:-1]).all("PID")[0].text(3) == "42"


def test_a_line_feed_inside_a_text_stays_in_it() -> None:
    parsed = parse(message(HEADER, PID, "OBX|1|TX|1^a||first\nsecond"))
    assert parsed.all("OBX")[0].text(5) == "first\nsecond"


def test_escapes_are_undone() -> None:
    text = r"a\F\b\S\c\T\d\R\e\E\f\.br\g\X41\\Z9\ \H\h\N\ "
    assert parse(message(HEADER, PID, f"NTE|1||{text}")).all("NTE")[0].text(3) == "a|b^c&d~e\\f\ngA\\Z9\\ h"


def test_other_separators_are_taken_from_the_header() -> None:
    parsed = parse(b"MSH#*%$@#HIS#01Z01#EHR#X#2026##ADT*A01#M1#P#2.5.1\rPID#1##42***X@Y@Z*PI%43\r")
    assert parsed.type == ("ADT", "A01")
    assert [element.text(1) for element in parsed.all("PID")[0].repetitions(3)] == ["42", "43"]
    assert parsed.all("PID")[0].text(3, 4, 2) == "Y"


def test_the_escape_character_is_that_of_the_header() -> None:
    message = parse(b"MSH#*~!%#HIS#01Z01###20261123##ADT*A04#1#P#2.5\rPID#1####a!T!b !S! !E! \\S\\*c!R!")
    pid = message.find("PID")
    assert pid is not None
    assert (pid.text(5, 1), pid.text(5, 2)) == ("a%b * ! \\S\\", "c~")


def test_a_doubled_escape_character_in_the_header_is_one() -> None:
    parsed = parse(message(HEADER.replace("^~\\&", "^~\\\\&"), PID, "NTE|1||a\\T\\b&c"))
    assert parsed.all("NTE")[0].first(3).whole() == "a&b&c"


@pytest.mark.parametrize(
    ("payload", "error", "at"),
    [
        (b"", Malformed, "MSH"),
        (b"PID|1", Malformed, "MSH"),
        (b"FHS|^~\\&|HIS|01Z01\rBHS|^~\\&|HIS|01Z01\r" + message(HEADER, PID), NotSupported, "FHS"),
        (b"BHS|^~\\&|HIS|01Z01\r" + message(HEADER, PID), NotSupported, "BHS"),
        (b"MSH", Malformed, "MSH-1"),
        (b"MSH|", Malformed, "MSH-1"),
        (b"MSH|^~", Malformed, "MSH-1"),
        (b"MSH|||||||", Malformed, "MSH-2"),
        (b"MSH|^^\\&|HIS|\r", Malformed, "MSH-2"),
        (message(HEADER, PID, "garbage"), Malformed, "line 3"),
        (message(HEADER, PID, HEADER, PID), Malformed, "MSH[2]"),
        (message(HEADER, "PID|1||4\x002"), Malformed, "MSH"),
        (message(HEADER.replace("UNICODE UTF-8", "KLINGON"), PID), NotSupported, "MSH-18"),
        (message(HEADER.replace("UNICODE UTF-8", "ASCII"), PID), Invalid, "PID-5"),
        (message(HEADER, "PID|1||42||Nguyen") + b"OBX|1|ST|||\xff\r", Invalid, "OBX-5"),
        (message(HEADER, *["NTE|1"] * 20_001), TooMuch, "MSH"),
        (message(HEADER, "NTE" + "|" * 200_001), TooMuch, "MSH"),
    ],
)
def test_faults_are_refused_with_their_place(payload: bytes, error: type[EhrError], at: str) -> None:
    with pytest.raises(error) as refused:
        parse(payload)
    assert refused.value.issues[0].at == at


def test_declared_character_sets_are_read() -> None:
    name = "Nguyễn Thị Hường"
    sent = message(HEADER.replace("UNICODE UTF-8", "CP1258"), f"PID|1||42||Müller {name[0]}", charset="cp1258")
    assert parse(sent).all("PID")[0].text(5) == "Müller N"
    latin = message(HEADER.replace("UNICODE UTF-8", "8859/1"), "PID|1||42||Müller", charset="iso8859-1")
    assert parse(latin).all("PID")[0].text(5) == "Müller"


def test_ten_thousand_results_are_read() -> None:
    lines = [f"OBX|{number}|NM|718-7^Hemoglobin^LN||13.50|g/dL^^UCUM|||||F" for number in range(10_000)]
    assert len(parse(message(HEADER, PID, *lines)).all("OBX")) == 10_000


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda tail: b"MSH|^~\\&|" + tail)))
def test_random_bytes_are_read_or_refused(payload: bytes) -> None:
    """Only EhrError leaves the parser, the mappers and the acknowledgment."""
    peek(payload)
    parsed: Message | None = None
    try:
        parsed = parse(payload)
        bundle_of(parsed, Origin("01Z01", "1"))
    except EhrError as error:
        answer = ack.refuse(parsed, "AR", error.issues, number=1, now=NOW)
        assert answer.split(b"\r")[1].startswith(b"MSA|AR|")


SEGMENTS = (  # noqa: SIM905
    "MSH EVN PID PD1 NK1 PV1 PV2 DG1 PR1 AL1 IAM IN1 ORC OBR OBX NTE RXO RXE RXA RXR SPM TXA SCH FT1 PRB TQ1 MRG ZCC"
).split()
KINDS = ["ADT^A01", "ADT^A40", "ORU^R01", "ORM^O01", "RDE^O11", "VXU^V04", "MDM^T02", "SIU^S12", "DFT^P03", "PPR^PC1"]
TOKENS = st.sampled_from(
    ["", "1", "A", "NM", "CE", "ED", "SN", '""', "20260230", "2026", "13.50", "^", "&", "~", "\\", "x^y^LN"]
)
LINES = st.tuples(st.sampled_from(SEGMENTS[1:]), st.lists(TOKENS, max_size=25)).map(lambda t: "|".join([t[0], *t[1]]))


@settings(max_examples=400)
@given(st.sampled_from(KINDS), st.lists(LINES, max_size=8))
def test_odd_segments_are_mapped_or_refused(kind: str, lines: list[str]) -> None:
    """No mapper meets a KeyError, whatever stands in the fields."""
    header = HEADER.replace("ADT^A01^ADT_A01", kind)
    try:
        mapped = bundle_of(parse(message(header, PID, *lines)), Origin("01Z01", "1"))
    except EhrError:
        return
    assert mapped, "a Bundle or reasons"


def fields(answer: bytes) -> list[list[str]]:
    return [segment.split("|") for segment in answer.decode().strip("\r").split("\r")]


def test_acceptance_names_the_message_and_swaps_the_parties() -> None:
    header, accepted = fields(ack.accept(parse(message(HEADER, PID)), number=7, now=NOW))
    assert header[2:6] == ["EHR", "HANOI", "HIS", "01Z01"]
    assert header[6] == "20261123080000+0700"
    assert header[8:12] == ["ACK^A01^ACK", "ACK7", "P", "2.5.1"]
    assert header[17] == "UNICODE UTF-8"
    assert accepted == ["MSA", "AA", "M1"]


def test_refusal_says_where_and_why() -> None:
    issues = [
        Issue("required", "no number", "PID-3"),
        Issue("value", "not | a date", "OBX[2]-14.1"),
        Issue("invariant", "rule", "Patient.name"),
    ]
    answer = fields(ack.refuse(parse(message(HEADER, PID)), "AE", issues, number=7, now=NOW))
    assert answer[1] == ["MSA", "AE", "M1"]
    assert answer[2][2:5] == ["PID^1^3", "101^Required field missing^HL70357", "E"]
    assert answer[3][2] == "OBX^2^14^1^1"
    assert answer[3][7] == "not \\F\\ a date"
    assert answer[4][2] == ""
    assert answer[4][7] == "Patient.name: rule"


def test_the_answer_is_in_the_character_set_of_the_message() -> None:
    header = HEADER.replace("UNICODE UTF-8", "8859/1").replace("|HIS|", "|Müller|")
    answer = ack.accept(parse(message(header, "PID|1||42", charset="iso8859-1")), number=1, now=NOW)
    assert answer.decode("iso8859-1").split("|")[4] == "Müller"
    assert b"8859/1" in answer
