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
