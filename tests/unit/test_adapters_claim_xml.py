"""Claim XML: a dossier becomes resources with its digits; a wrong file is refused with table, row and field."""

import base64
import time
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from adapters.claim_xml import bundle_of
from adapters.claim_xml.envelope import open_envelope
from adapters.facilities import claim_xml as sender
from adapters.facilities.arrivals import arrivals
from adapters.facilities.episode import Episode
from adapters.facilities.episodes import episode
from adapters.facilities.population import Population
from adapters.facilities.registry import FACILITIES
from adapters.port import Origin
from ehr import limits
from ehr.errors import EhrError, Issue, Malformed, TooMuch
from ehr.fhir import codec
from ehr.fhir.elements import identifier_of
from ehr.fhir.validate import validate
from ehr.fhir.vietnam import CHARGE_NUMBER, claim_columns
from terminology.claim_tables import SUMS, tables


@pytest.fixture(scope="module")
def story() -> Episode:
    """A visit with medicines and results, in a facility that sends claim files."""
    population = Population(1, 6000)
    facility = next(one for one in FACILITIES if one.feed == "claim_xml")
    for hour in range(7, 17):
        for arrival in arrivals(1, facility, date(2026, 11, 23), hour):
            found = episode(1, population, arrival)
            if found.citizen.card and found.citizen.cccd and found.medicines and found.orders:
                return found
    raise AssertionError("a day has such a visit")


def envelope(rows: dict[str, list[dict[str, str]]], facility: str, *, wrap: Any = base64.b64encode) -> bytes:
    parts = "".join(
        f"<FILEHOSO><LOAIHOSO>{code}</LOAIHOSO><NOIDUNGFILE>"
        f"{wrap(sender.document(tables()[code], lines).encode()).decode()}</NOIDUNGFILE></FILEHOSO>"
        for code, lines in rows.items()
    )
    return (
        f"<GIAMDINHHS><THONGTINDONVI><MACSKCB>{facility}</MACSKCB></THONGTINDONVI><THONGTINHOSO><NGAYLAP>20261123</NGAYLAP>"
        f"<SOLUONGHOSO>1</SOLUONGHOSO><DANHSACHHOSO><HOSO>{parts}</HOSO></DANHSACHHOSO></THONGTINHOSO></GIAMDINHHS>"
    ).encode()


def rows_of(story: Episode) -> dict[str, list[dict[str, str]]]:
    return {code: [dict(line) for line in lines] for code, lines in sender.rows(story).items()}


def resources(bundle: object, type_name: str) -> list[dict[str, Any]]:
    assert isinstance(bundle, dict), bundle
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == type_name]


def origin(story: Episode) -> Origin:
    return Origin(story.facility.code, "c1", "Organization/o1")


def test_a_dossier_becomes_valid_resources(story: Episode) -> None:
    bundle = bundle_of(sender.envelope(story), origin(story))
    assert isinstance(bundle, dict), bundle
    assert not [
        issue
        for e in bundle["entry"]
        for issue in validate(codec.loads(codec.dumps(e["resource"])))
        if issue.severity == "error"
    ]
    (patient,) = resources(bundle, "Patient")
    assert patient["name"] == [{"text": story.citizen.name}]
    (visit,) = resources(bundle, "Encounter")
    assert identifier_of(visit, "http://fhir.hl7.org.vn/core/sid/ma-lk") == story.link
    assert visit["status"] == "finished"
    assert len(visit["diagnosis"]) == 1 + len(story.secondary)
    assert len(resources(bundle, "MedicationRequest")) == len(story.medicines)
    assert len(resources(bundle, "Observation")) >= sum(len(order.results) for order in story.orders)


def test_no_column_and_no_digit_of_a_row_is_lost(story: Episode) -> None:
    sent = {
        f"{story.link}/{code}/{row['STT']}": row for code in ("XML2", "XML3") for row in rows_of(story).get(code, [])
    }
    charges = resources(bundle_of(sender.envelope(story), origin(story)), "ChargeItem")
    assert len(charges) == len(sent)
    for charge in charges:
        row = sent[identifier_of(charge, CHARGE_NUMBER) or ""]
        kept = claim_columns(charge)
        for name, value in row.items():
            if value and name not in ("MA_LK", "STT", "SO_LUONG", "DON_VI_TINH"):
                assert kept[name] == value
        assert str(charge["quantity"]["value"]) == row["SO_LUONG"]
        assert str(charge["priceOverride"]["value"]) == row["THANH_TIEN_BV"]


def test_vital_signs_are_read_out_of_the_note(story: Episode) -> None:
    rows = rows_of(story)
    note = {"MA_LK": story.link, "STT": "1", "DIEN_BIEN_LS": "Tỉnh, CSST<M75_T37.5_HA120/70_NT18_SP98>"}
    rows["XML5"] = [note | {"THOI_DIEM_DBLS": "202611230815", "NGUOI_THUC_HIEN": "000123/HNO-CCHN"}]
    bundle = bundle_of(envelope(rows, story.facility.code), origin(story))
    (impression,) = resources(bundle, "ClinicalImpression")
    assert impression["summary"] == note["DIEN_BIEN_LS"]
    found = {
        o["code"]["coding"][0]["code"]: o
        for o in resources(bundle, "Observation")
        if o["identifier"][0]["value"].startswith(f"{story.link}/XML5/")
    }
    assert found["8310-5"]["valueQuantity"]["value"] == Decimal("37.5")
    parts = [str(part["valueQuantity"]["value"]) for part in found["85354-9"]["component"]]
    assert parts == ["120", "70"]
    assert set(found) == {"8867-4", "8310-5", "9279-1", "59408-5", "85354-9"}


def issues_of(
    rows: dict[str, list[dict[str, str]]], story: Episode, facility: str | None = None
) -> list[tuple[str, str | None]]:
    found = bundle_of(envelope(rows, facility or story.facility.code), origin(story))
    assert isinstance(found, list), "a refusal"
    return [(issue.code, issue.at) for issue in found]


def test_wrong_fields_are_named_with_table_and_row(story: Episode) -> None:
    rows = rows_of(story)
    rows["XML2"][0]["SO_LUONG"] = "two"
    rows["XML3"][0]["MA_LK"] = "another"
    rows["XML1"][0]["HO_TEN"] = ""
    rows["XML1"][0]["NGAY_VAO"] = "202613010800"
    rows["XML1"][0]["MA_BENH_KT"] = "I10;not a code"
    found = issues_of(rows, story)
    assert ("value", "HOSO[1].XML2[1].SO_LUONG") in found
    assert ("value", "HOSO[1].XML3[1].MA_LK") in found
    assert ("required", "HOSO[1].XML1.HO_TEN") in found
    assert ("value", "HOSO[1].XML1.NGAY_VAO") in found
    assert ("code-invalid", "HOSO[1].XML1.MA_BENH_KT") in found


def test_cards_are_parallel_lists(story: Episode) -> None:
    rows = rows_of(story)
    rows["XML1"][0]["MA_THE_BHYT"] += ";DN4010000000001"
    found = issues_of(rows, story)
    assert {at for _, at in found} >= {"HOSO[1].XML1.MA_DKBD", "HOSO[1].XML1.GT_THE_TU", "HOSO[1].XML1.GT_THE_DEN"}


def test_another_facility_is_refused(story: Episode) -> None:
    assert issues_of(rows_of(story), story, "99999") == [("forbidden", "THONGTINDONVI.MACSKCB")]
    rows = rows_of(story)
    rows["XML1"][0]["MA_CSKCB"] = "99999"
    assert ("forbidden", "HOSO[1].XML1.MA_CSKCB") in issues_of(rows, story)


def test_an_unknown_field_is_refused(story: Episode) -> None:
    document = sender.document(tables()["XML1"], rows_of(story)["XML1"]).replace("</TONG_HOP>", "<LA>1</LA></TONG_HOP>")
    body = envelope({}, story.facility.code).replace(b"<HOSO>", b"<HOSO>" + part("XML1", document.encode()))
    found = bundle_of(body, origin(story))
    assert isinstance(found, list)
    assert ("structure", "HOSO[1].XML1.LA") in [(issue.code, issue.at) for issue in found]


def part(code: str, document: bytes) -> bytes:
    content = base64.b64encode(document)
    return b"<FILEHOSO><LOAIHOSO>%b</LOAIHOSO><NOIDUNGFILE>%b</NOIDUNGFILE></FILEHOSO>" % (code.encode(), content)


BOMB = b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><GIAMDINHHS>&b;</GIAMDINHHS>'
INCLUDE = b'<GIAMDINHHS xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="/etc/passwd"/></GIAMDINHHS>'
OUTSIDE = b'<!DOCTYPE g [<!ENTITY x SYSTEM "file:///etc/passwd">]><GIAMDINHHS>&x;</GIAMDINHHS>'


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", Malformed),
        (b"not xml", Malformed),
        (b"<a>", Malformed),
        (b"<a/>", Malformed),
        (b"<GIAMDINHHS/>", Malformed),
        (BOMB, Malformed),
        (OUTSIDE, Malformed),
        (OUTSIDE.replace(b"DOCTYPE", b"doctype"), Malformed),
        (OUTSIDE.decode().encode("utf-16"), Malformed),
        (b'<?xml version="1.0" encoding="utf-16"?><GIAMDINHHS/>', Malformed),
        (b'<?xml version="1.0" encoding="utf-7"?><GIAMDINHHS/>', Malformed),
        (b"<GIAMDINHHS>&undefined;</GIAMDINHHS>", Malformed),
        (b"<GIAMDINHHS>\xff</GIAMDINHHS>", Malformed),
        (b"<a>" * 300 + b"</a>" * 300, Malformed),
        (INCLUDE, Malformed),
        (b"<GIAMDINHHS>" + b"x" * (51 * 1024 * 1024) + b"</GIAMDINHHS>", TooMuch),
    ],
)
def test_hostile_files_are_refused_at_once(body: bytes, error: type[EhrError]) -> None:
    began = time.perf_counter()
    with pytest.raises(error) as refused:
        open_envelope(body)
    assert time.perf_counter() - began < 2
    assert "root:" not in str(refused.value)


def dossier(content: bytes) -> bytes:
    return (
        b"<GIAMDINHHS><THONGTINHOSO><DANHSACHHOSO><HOSO>"
        + content
        + b"</HOSO></DANHSACHHOSO></THONGTINHOSO></GIAMDINHHS>"
    )


@pytest.mark.parametrize(
    ("content", "at"),
    [
        (b"", "HOSO[1]"),
        (
            b"<FILEHOSO><LOAIHOSO>XML1</LOAIHOSO><NOIDUNGFILE>%%%</NOIDUNGFILE></FILEHOSO>",
            "HOSO[1].FILEHOSO[1].NOIDUNGFILE",
        ),
        (part("XML99", b"<a/>"), "HOSO[1].FILEHOSO[1].LOAIHOSO"),
        (part("XML1", b"<TONG_HOP/>") * 2, "HOSO[1].FILEHOSO[2]"),
        (part("XML1", b"<WRONG/>"), "HOSO[1].XML1"),
        (part("XML1", BOMB), "HOSO[1].XML1"),
        (part("XML1", b"<TONG_HOP><MA_LK>1</MA_LK><MA_LK>2</MA_LK></TONG_HOP>"), "HOSO[1].XML1.MA_LK"),
        (part("XML1", b"<TONG_HOP><MA_LK><b/></MA_LK></TONG_HOP>"), "HOSO[1].XML1.MA_LK"),
        (part("XML1", b"<TONG_HOP/>") + part("XML2", b"<CHITIEU_CHITIET_THUOC/>"), "HOSO[1].XML2"),
    ],
)
def test_wrong_containers_are_named(content: bytes, at: str) -> None:
    with pytest.raises(Malformed) as refused:
        open_envelope(dossier(content))
    assert refused.value.issues[0].at == at


def test_dossiers_are_bounded() -> None:
    with pytest.raises(TooMuch):
        open_envelope(dossier(b"</HOSO><HOSO>" * (limits.claim_xml_dossiers_max + 1)))


def test_a_paper_is_kept_whole(story: Episode) -> None:
    paper = b"<CHI_TIEU_DU_LIEU_GIAY_RA_VIEN><MA_LK>1</MA_LK></CHI_TIEU_DU_LIEU_GIAY_RA_VIEN>"
    body = envelope(rows_of(story), story.facility.code).replace(b"</HOSO>", part("XML7", paper) + b"</HOSO>")
    (document,) = resources(bundle_of(body, origin(story)), "DocumentReference")
    assert base64.b64decode(document["content"][0]["attachment"]["data"]) == paper


def test_one_wrong_dossier_refuses_the_envelope(story: Episode) -> None:
    body = envelope(rows_of(story), story.facility.code)
    start, end = body.index(b"<HOSO>"), body.index(b"</HOSO>") + len(b"</HOSO>")
    twice = (body[:end] + body[start:end] + body[end:]).replace(b"<SOLUONGHOSO>1<", b"<SOLUONGHOSO>2<")
    found = bundle_of(twice, origin(story))
    assert found == [Issue("duplicate", "MA_LK stands in another HOSO of the envelope", "HOSO[2].XML1.MA_LK")]


@pytest.mark.parametrize("told", ["2", "0", "x", "-1"])
def test_an_envelope_that_lost_a_dossier_is_refused(story: Episode, told: str) -> None:
    body = sender.envelope(story).replace(b"<SOLUONGHOSO>1<", f"<SOLUONGHOSO>{told}<".encode())
    with pytest.raises(Malformed) as refused:
        bundle_of(body, origin(story))
    assert refused.value.issues[0].at == "GIAMDINHHS.THONGTINHOSO.SOLUONGHOSO"


@pytest.mark.parametrize("total", SUMS)
def test_totals_are_what_the_rows_come_to(story: Episode, total: str) -> None:
    rows = rows_of(story)
    (summary,) = rows["XML1"]
    right = Decimal(summary[total])
    for told, at in ((right + 1, [f"HOSO[1].XML1.{total}"]), (right + Decimal("0.99"), [])):
        summary[total] = str(told)
        found = bundle_of(envelope(rows, story.facility.code), origin(story))
        assert [issue.at for issue in found if isinstance(issue, Issue)] == at


def test_a_row_that_was_lost_is_missed_in_the_totals(story: Episode) -> None:
    rows = rows_of(story)
    rows["XML2"].pop()
    found = bundle_of(envelope(rows, story.facility.code), origin(story))
    assert "HOSO[1].XML1.T_TONGCHI_BV" in [issue.at for issue in found if isinstance(issue, Issue)]


@pytest.mark.parametrize("amount", ["-5", "-0.01", "٥"])
def test_no_amount_is_below_zero(story: Episode, amount: str) -> None:
    rows = rows_of(story)
    rows["XML3"][0]["THANH_TIEN_BV"] = amount
    (issue,) = bundle_of(envelope(rows, story.facility.code), origin(story))
    assert isinstance(issue, Issue)
    assert (issue.code, issue.at) == ("value", "HOSO[1].XML3[1].THANH_TIEN_BV")
