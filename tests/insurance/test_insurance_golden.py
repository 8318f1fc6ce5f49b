"""One outpatient and one inpatient episode, to the letter; the envelope around them; rules before sealing.

To renew the golden files after a wanted change: EHR_GOLDEN=write, then read the difference.
"""

import base64
import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lxml import etree

from ehr.fhir.vietnam import claim_columns, columns_extension
from sync.compose import compose
from sync.dossier import Dossier, Withheld
from sync.opened import opened
from sync.render import envelope, hoso, hoso_sha256, table_document
from terminology.claim_tables import table

if TYPE_CHECKING:
    from tests.insurance.conftest import Episodes, Visit

GOLDEN = Path(__file__).parent / "golden"


def composed(episodes: "Episodes", visit: "Visit") -> Dossier:
    dossier = compose(episodes.episode(visit))
    assert isinstance(dossier, Dossier), dossier
    return dossier


@pytest.mark.parametrize("kind", ["outpatient", "inpatient"])
def test_golden(episodes: "Episodes", kind: str) -> None:
    visit = episodes.outpatient() if kind == "outpatient" else episodes.inpatient()
    for code, rows in composed(episodes, visit).tables():
        root = etree.fromstring(table_document(table(code), rows))
        etree.indent(root)
        written = etree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
        file = GOLDEN / f"{kind}_{code.lower()}.xml"
        if os.environ.get("EHR_GOLDEN") == "write":
            file.write_bytes(written)
        assert written.decode() == file.read_text("utf-8")


def test_tables_that_travel(episodes: "Episodes") -> None:
    """XML5 only for forms of care that keep a course of illness."""
    assert [code for code, _ in composed(episodes, episodes.outpatient()).tables()] == ["XML1", "XML2", "XML3", "XML4"]
    assert [code for code, _ in composed(episodes, episodes.inpatient()).tables()][-1] == "XML5"


def test_fields_are_in_the_order_and_width_of_the_tables(episodes: "Episodes") -> None:
    for code, rows in composed(episodes, episodes.inpatient()).tables():
        of = table(code)
        root = etree.fromstring(table_document(of, rows))
        records = root.findall(f"{of.list_tag}/{of.record_tag}") if of.repeats else [root]
        assert len(records) == len(rows)
        for record in records:
            assert [str(field.tag) for field in record] == list(of.names)
            for field, element in zip(of.fields, record, strict=True):
                assert field.width is None or len(element.text or "") <= field.width


def test_the_envelope_holds_what_was_put_in(episodes: "Episodes") -> None:
    dossiers = [composed(episodes, episodes.outpatient(number=number)) for number in (1, 2)]
    body = envelope("01Z01", date(2026, 11, 23), [hoso(one) for one in dossiers])
    root = etree.fromstring(body)
    assert body.startswith(b"<?xml version='1.0' encoding='utf-8'?>\n<GIAMDINHHS xmlns:xs")
    assert root.findtext("THONGTINDONVI/MACSKCB") == "01Z01"
    assert root.findtext("THONGTINHOSO/NGAYLAP") == "20261123"
    assert root.findtext("THONGTINHOSO/SOLUONGHOSO") == "2"
    assert [str(child.tag) for child in root] == ["THONGTINDONVI", "THONGTINHOSO", "CHUKYDONVI"]
    first = root.findtext("THONGTINHOSO/DANHSACHHOSO/HOSO/FILEHOSO/NOIDUNGFILE")
    assert first is not None
    assert base64.b64decode(first, validate=True) == table_document(table("XML1"), [dossiers[0].summary])
    for read, dossier in zip(opened(body), dossiers, strict=True):
        assert {code: [dict(row) for row in rows] for code, rows in read.tables.items()} == {
            code: [{name: row.get(name, "") for name in table(code).names} for row in rows]
            for code, rows in dossier.tables()
        }


def test_the_same_episode_is_the_same_bytes(episodes: "Episodes") -> None:
    one, two = (hoso(composed(episodes, episodes.inpatient())) for _ in range(2))
    assert hoso_sha256(one) == hoso_sha256(two)
    assert hoso_sha256(one) != hoso_sha256(hoso(composed(episodes, episodes.inpatient(weight="56.6"))))


def test_text_that_xml_cannot_carry(episodes: "Episodes") -> None:
    item = replace(episodes.EXAMINATION, name="Khám\ufffe<Nội> & \uffffngoại")
    rows = composed(episodes, episodes.outpatient(items=(item,))).services[0].columns
    document = etree.fromstring(table_document(table("XML3"), [rows]))
    assert document.findtext(".//TEN_DICH_VU") == "Khám <Nội> &  ngoại"


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"card": "GD40101234567"}, "MA_THE_BHYT"),
        ({"weight": None}, "XML1.CAN_NANG"),
        ({"main": ""}, "XML1.MA_BENH_CHINH"),
        ({"items": ()}, "XML3"),
    ],
)
def test_what_cannot_be_sent_is_withheld_with_its_place(
    episodes: "Episodes", change: dict[str, object], at: str
) -> None:
    found = compose(episodes.episode(episodes.outpatient(**change)))
    assert isinstance(found, Withheld)
    assert at in {str(issue.at) for issue in found.issues}
    assert not any("GD40101234567" in issue.text for issue in found.issues)


@pytest.mark.parametrize(
    ("columns", "at"),
    [
        ({"SO_LUONG": "0"}, "XML3[1].SO_LUONG"),
        ({"SO_LUONG": "-1"}, "ChargeItem/i0-1-01Z01.SO_LUONG"),
        ({"SO_LUONG": "1E+40"}, "ChargeItem/i0-1-01Z01.SO_LUONG"),
        ({"DON_GIA_BV": "-36500"}, "ChargeItem/i0-1-01Z01.DON_GIA_BV"),
        ({"DON_GIA_BV": "9E+999999"}, "ChargeItem/i0-1-01Z01.DON_GIA_BV"),
        ({"MUC_HUONG": "150"}, "XML3[1].MUC_HUONG"),
        ({"MUC_HUONG": "150", "TYLE_TT_BH": "0"}, "XML3[1].MUC_HUONG"),
        ({"PHAM_VI": "4"}, "XML3[1].PHAM_VI"),
        ({"MA_PTTT": "9"}, "XML3[1].MA_PTTT"),
        ({"NGAY_KQ": "202613010800"}, "XML3[1].NGAY_KQ"),
        ({"NGAY_YL": "20261120"}, "XML3[1].NGAY_YL"),
    ],
)
def test_a_charge_with_a_value_that_its_field_does_not_know(
    episodes: "Episodes", columns: dict[str, str], at: str
) -> None:
    """Withheld with its place, and nothing raised: one such charge held up every other dossier of its file."""
    item = replace(episodes.EXAMINATION, columns=(*episodes.EXAMINATION.columns, *columns.items()))
    found = compose(episodes.episode(episodes.outpatient(items=(item,))))
    assert isinstance(found, Withheld)
    assert at in [issue.at for issue in found.issues]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GIOI_TINH", "9"),
        ("KET_QUA_DTRI", "9"),
        ("MA_LOAI_RV", "6"),
        ("NGAY_VAO", "202611310805"),
        ("NGAY_VAO", "2026"),
        ("NGAY_RA", "202602301015"),
        ("NGAY_RA", "20261120"),
        ("NGAY_RA", "202611190805"),
        ("NGAY_RA", "tomorrow"),
        ("NGAY_VAO_NOI_TRU", "20261120080x"),
    ],
)
def test_a_stay_with_a_value_that_its_field_does_not_know(episodes: "Episodes", name: str, value: str) -> None:
    whole = episodes.episode(episodes.inpatient())
    stated = claim_columns(whole.encounter) | {name: value}
    found = compose(replace(whole, encounter={**whole.encounter, "extension": [columns_extension(stated)]}))
    assert isinstance(found, Withheld)
    assert f"XML1.{name}" in [issue.at for issue in found.issues]


def test_money_is_that_of_the_quantity_and_the_price_as_written(episodes: "Episodes") -> None:
    """The insurer multiplies the rounded numbers it reads."""
    drug = replace(episodes.DRUG, quantity="0.3335", price="100000.4445")
    found = compose(episodes.episode(episodes.outpatient(items=(drug,))))
    assert isinstance(found, Dossier), found
    (row,) = (charge.columns for charge in found.drugs)
    assert (row["SO_LUONG"], row["DON_GIA"], row["THANH_TIEN_BV"]) == ("0.334", "100000.445", "33400.15")


def test_a_drug_without_its_tender_is_withheld(episodes: "Episodes") -> None:
    drug = replace(episodes.DRUG, columns=tuple(pair for pair in episodes.DRUG.columns if pair[0] != "TT_THAU"))
    found = compose(episodes.episode(episodes.outpatient(items=(drug,))))
    assert isinstance(found, Withheld)
    assert [issue.at for issue in found.issues] == ["XML2[1].TT_THAU"]


def test_what_was_entered_in_error_is_not_claimed(episodes: "Episodes") -> None:
    """A diagnosis that was taken back (DG1-21 D) stays in Encounter.diagnosis; the weight was another patient's."""
    found = episodes.episode(episodes.outpatient())
    taken_back = {"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
    referred = {
        name: {**tree, **taken_back} if name.startswith("Condition/da") else tree
        for name, tree in found.referred.items()
    }
    claimed = compose(replace(found, referred=referred))
    assert isinstance(claimed, Dossier)
    assert (claimed.summary["MA_BENH_CHINH"], claimed.summary.get("MA_BENH_KT")) == ("I10", None)
    assert "J20" not in claimed.summary["CHAN_DOAN_RV"]
    observations = [{**tree, "status": "entered-in-error"} for tree in found.observations]
    withheld = compose(replace(found, observations=observations))
    assert isinstance(withheld, Withheld)
    assert [issue.at for issue in withheld.issues] == ["XML1.CAN_NANG"]
