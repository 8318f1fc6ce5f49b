"""The claim tables against the shared list of 481 fields, and the rules a row is held against."""

import csv
import json
from pathlib import Path

from terminology.claim_tables import check_row, table, tables

KINDS = {"Chuỗi": "string", "Số": "number"}


def test_every_field_is_that_of_the_annex_and_the_validator(shared_data: Path) -> None:
    rows = list(csv.DictReader((shared_data / "vn" / "vss-xml" / "fields_qd4750.csv").read_text("utf-8").splitlines()))
    ours = [(code, field) for code, of in tables("4750").items() for field in of.fields]
    assert len(rows) == len(ours) == 481
    for row, (code, field) in zip(rows, ours, strict=True):
        assert (row["table"], row["field"]) == (code, field.name)
        for bound, kind, width in (
            (field.annex, row["type_qd130"], row["max_qd130"]),
            (field.validator, row["vss_type"], row["vss_max"]),
        ):
            assert (bound.kind, bound.width) == (KINDS[kind], None if width == "n" else int(width)), (code, field.name)
        required = row["vss_required"]
        expected = {"x": "yes", "": "no"}.get(required)
        assert field.required.rule == expected if expected else field.required.rule not in {"yes", "no"}
        if "thành chuỗi" in row["amend_qd4750"]:
            assert field.kind == "string"


def test_containers_are_those_of_the_insurers_letter(shared_data: Path) -> None:
    skeletons = json.loads((shared_data / "vn" / "vss-xml" / "skeletons_cv1245.json").read_text("utf-8"))["tables"]
    for code, skeleton in skeletons.items():
        of = tables("4750")[code]
        if "container_path" not in skeleton:
            assert of.root == ""
            continue
        assert [part for part in (of.root, of.list_tag, of.record_tag) if part] == skeleton["container_path"]
        assert list(of.names) == skeleton["fields_in_order"]


def test_3176_renames_and_drops_only_in_xml13(shared_data: Path) -> None:
    change = json.loads((shared_data / "vn" / "vss-xml" / "diff_3176_vs_4750.json").read_text("utf-8"))["XML13"]
    assert set(table("XML13", "3176").names) == set(change["order_per_A"])
    for code in tables("3176"):
        if code != "XML13":
            assert tables("3176")[code].names == tables("4750")[code].names


def test_requirements_read_the_row() -> None:
    xml3 = table("XML3")
    row = {field.name: "1" for field in xml3.fields} | {"MA_NHOM": "13", "MA_VAT_TU": "", "TEN_VAT_TU": ""}
    assert check_row(xml3, row) == []
    assert [b.field for b in check_row(xml3, row | {"MA_NHOM": "12", "MA_XANG_DAU": ""})] == ["MA_XANG_DAU"]
    assert [b.field for b in check_row(xml3, row | {"MA_DICH_VU": ""})] == ["MA_DICH_VU", "MA_VAT_TU"]
    assert [b.rule for b in check_row(xml3, row | {"SO_LUONG": "1,5"})] == ["number"]
    assert [b.rule for b in check_row(xml3, row | {"MA_KHOA": "K" * 51, "X": ""})] == ["unknown", "width"]
    assert [b.field for b in check_row(table("XML2"), {"MA_NHOM": "7"}) if b.field == "TT_THAU"] == []
