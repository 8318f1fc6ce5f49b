"""CSV code lists of the Ministry of Health → rows.

In:      text of a file, UTF-8 with or without mark; the columns say which list it is
           code, code_nodot, name_vi, name_en, …   ICD-10 of QĐ 4469/QĐ-BYT
           equivalent_code, name_vi, icd9_code, …   technical services of QĐ 4440/QĐ-BYT, with their ICD-9-CM codes
           code and name_vi (display_vi, text_vi)   any other list; its system and version are given by the caller
Out:     list of CodeSystem and ConceptMap
Keeps:   names as printed; of the services one has none, and its code stands for it. The dagger and asterisk of
         ICD-10 become the property mark, because they are not part of the code that claims and FHIR use. Of a code
         that occurs twice the first row is kept.
Errors:  Unreadable  unknown columns, or a row without a code, with its line
Source:  QĐ 4469/QĐ-BYT (2020), QĐ 4440/QĐ-BYT (2020)
"""

import csv
from collections.abc import Iterator, Mapping
from typing import Final

from terminology.errors import Unreadable
from terminology.lists import ICD_10, SERVICE
from terminology.resources import CodeSystem, Concept, ConceptMap, Designation, Group, Loadable, Mapped, Value

ICD_10_VERSION: Final = "QD-4469-2020"
SERVICE_VERSION: Final = "QD-4440-2020"
ICD_9_CM: Final = "http://hl7.org/fhir/sid/icd-9-cm"
SERVICE_MAP: Final = "urn:city-ehr:maps:dvkt-icd-9-cm"

_ICD_10_COLUMNS: Final = frozenset({"code", "code_nodot", "name_vi", "name_en", "category"})
_SERVICE_COLUMNS: Final = frozenset({"equivalent_code", "name_vi", "icd9_code"})
_VIETNAMESE: Final = ("name_vi", "display_vi", "text_vi", "text_vi_paraphrase")
_ENGLISH: Final = ("name_en", "display_en", "text_en")
_MARKS: Final = {"†": "dagger", "*": "asterisk"}

Row = Mapping[str, str]


def read(
    text: str, *, system: str | None = None, version: str | None = None, title: str | None = None
) -> list[Loadable]:
    reader = csv.DictReader(text.removeprefix("\ufeff").splitlines(keepends=True), strict=True)
    columns = frozenset(reader.fieldnames or ())
    try:
        if columns >= _ICD_10_COLUMNS:
            return [_icd_10(reader, version or ICD_10_VERSION)]
        if columns >= _SERVICE_COLUMNS:
            return _services(reader, version or SERVICE_VERSION)
        return [_plain(reader, columns, system, version or "", title or "")]
    except csv.Error as error:
        raise Unreadable(f"not CSV: {error}", at=f"line {reader.line_num + 1}") from error


def _icd_10(reader: "csv.DictReader[str]", version: str) -> CodeSystem:
    concepts: dict[str, Concept] = {}
    for row, at in _rows(reader, "code"):
        code, mark = _unmarked(row["code"])
        category, _ = _unmarked(row["category"])
        properties: dict[str, str | bool | None] = {
            "chapter": row.get("chapter_no") or None,
            "group": row.get("group_range") or None,
            "mark": mark,
            "notMain": True if row.get("not_primary_diagnosis") else None,
        }
        if code not in concepts:
            concepts[code] = _concept(
                code, row, at, parents=(category,) if category != code else (), properties=_filled(properties)
            )
    return CodeSystem(ICD_10, version, "ICD-10, danh mục của Bộ Y tế", "vi", concepts)


def _unmarked(code: str) -> tuple[str, str | None]:
    code = code.strip()
    mark = _MARKS.get(code[-1:])
    return (code[:-1], mark) if mark else (code, None)


def _services(reader: "csv.DictReader[str]", version: str) -> list[Loadable]:
    concepts: dict[str, Concept] = {}
    mapped: dict[tuple[str, str], Mapped] = {}
    for row, at in _rows(reader, "equivalent_code"):
        code, icd9 = row["equivalent_code"].strip(), row["icd9_code"].strip()
        properties: dict[str, str | bool | None] = {
            "specialty": row.get("specialty21") or None,
            "level": row.get("technical_level") or None,
            "class": row.get("procedure_class") or None,
        }
        concepts.setdefault(code, _concept(code, row, at, properties=_filled(properties), named=False))
        if icd9:
            mapped.setdefault((code, icd9), Mapped(0, code, icd9, "relatedto"))
    title = "Danh mục dịch vụ kỹ thuật"
    return [
        CodeSystem(SERVICE, version, title, "vi", concepts),
        ConceptMap(
            SERVICE_MAP, version, f"{title}, ICD-9-CM", "", "", (Group(SERVICE, ICD_9_CM),), tuple(mapped.values())
        ),
    ]


def _plain(
    reader: "csv.DictReader[str]", columns: frozenset[str], system: str | None, version: str, title: str
) -> CodeSystem:
    if "code" not in columns or columns.isdisjoint(_VIETNAMESE):
        raise Unreadable(f"needs the columns code and {_VIETNAMESE[0]}; see terminology/read_csv.py", at="line 1")
    if system is None:
        raise Unreadable("a plain code list needs the URL of its system", at="line 1")
    concepts: dict[str, Concept] = {}
    for row, at in _rows(reader, "code"):
        code = row["code"].strip()
        concepts.setdefault(code, _concept(code, row, at, properties={}))
    return CodeSystem(system, version, title, "vi", concepts)


def _rows(reader: "csv.DictReader[str]", key: str) -> Iterator[tuple[Row, str]]:
    found = False
    for row in reader:
        at = f"line {reader.line_num}"
        if None in row or None in row.values():
            raise Unreadable("has another number of columns than the first line", at=at)
        if not row[key].strip():
            raise Unreadable(f"{key} is empty", at=at)
        found = True
        yield row, at
    if not found:
        raise Unreadable("holds no rows")


def _concept(
    code: str,
    row: Row,
    at: str,
    *,
    properties: Mapping[str, tuple[Value, ...]],
    parents: tuple[str, ...] = (),
    named: bool = True,
) -> Concept:
    vietnamese = next((row[name].strip() for name in _VIETNAMESE if row.get(name)), "")
    english = next((row[name].strip() for name in _ENGLISH if row.get(name)), "")
    if named and not (vietnamese or english):
        raise Unreadable("has no name", at=at)
    return Concept(
        code=code,
        display=vietnamese or english or code,
        parents=parents,
        properties=properties,
        designations=(Designation(english, "en"),) if english and vietnamese else (),
    )


def _filled(properties: dict[str, str | bool | None]) -> dict[str, tuple[Value, ...]]:
    return {
        name: ({"valueBoolean" if isinstance(value, bool) else "valueString": value},)
        for name, value in properties.items()
        if value is not None
    }
