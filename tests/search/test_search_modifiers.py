"""Modifiers, units, places, words and filters against a real database, with answers worked out by hand."""

from collections.abc import AsyncIterator

import pytest

from ehr import limits
from ehr.database.engine import Database
from ehr.errors import Invalid, NotSupported, TooMuch
from ehr.index.words import narrative as narrative_words
from ehr.index.words import sound, sounds, words
from ehr.search import probe
from tests.search.store import Records

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
ICD = "http://hl7.org/fhir/sid/icd-10"
KIND = "http://terminology.hl7.org/CodeSystem/v2-0203"


def concept(code: str, display: str, text: str | None = None, system: str = ICD) -> dict[str, object]:
    made: dict[str, object] = {"coding": [{"system": system, "code": code, "display": display}]}
    return made | ({"text": text} if text else {})


def condition(id: str, patient: str, code: dict[str, object]) -> dict[str, object]:
    return {"resourceType": "Condition", "id": id, "subject": {"reference": f"Patient/{patient}"}, "code": code}


GLUCOSE = concept("2345-7", "Glucose", system=LOINC)


def measured(id: str, value: float, unit: str, **more: object) -> dict[str, object]:
    quantity = {"value": value, "unit": unit, "system": UCUM, "code": unit}
    made = {"resourceType": "Observation", "id": id, "status": "final", "code": GLUCOSE}
    return made | {"subject": {"reference": "Patient/p1"}, "valueQuantity": quantity} | more


def place(id: str, latitude: float, longitude: float) -> dict[str, object]:
    return {"resourceType": "Location", "id": id, "position": {"latitude": latitude, "longitude": longitude}}


def person(id: str, family: str, given: str, **more: object) -> dict[str, object]:
    return {"resourceType": "Patient", "id": id, "name": [{"family": family, "given": [given]}], **more}


def narrative(div: str) -> dict[str, str]:
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{div}</div>'}


WORLD = (
    person(
        "p1",
        "Nguyễn",
        "Xuân Đức",
        gender="male",
        birthDate="1980-02-29",
        text=narrative("<p>Bệnh nhân có <b>sốt</b>&#160;cao</p>"),
        identifier=[
            {
                "type": {"coding": [{"system": KIND, "code": "MR"}], "text": "Mã bệnh án"},
                "system": "urn:m",
                "value": "1",
            }
        ],
    ),
    person(
        "p2",
        "Smith",
        "Catherine",
        gender="female",
        birthDate="1990",
        text=narrative("Bệnh nhân ho"),
        identifier=[{"type": {"coding": [{"system": KIND, "code": "PPN"}]}, "value": "1"}],
    ),
    person("p3", "Nguyen", "Suan", birthDate="2001-07"),
    condition("c1", "p1", concept("E11.9", "Type 2 diabetes mellitus", "Đái tháo đường típ 2")),
    condition("c2", "p2", concept("E10", "Type 1 diabetes mellitus")),
    condition("c3", "p1", concept("J00", "Acute nasopharyngitis", "Cảm lạnh")),
    measured("g1", 1, "g/L"),
    measured("g2", 1000, "mg/L"),
    measured("g3", 5.5, "mmol/L"),
    measured("g4", 99.96, "mg/dL"),
    measured("g5", 7, "{score}"),
    measured("t1", 37, "Cel", code=concept("8310-5", "Body temperature", system=LOINC)),
    measured("t2", 98.6, "[degF]", code=concept("8310-5", "Body temperature", system=LOINC)),
    measured(
        "k1",
        3,
        "1",
        component=[
            {
                "code": concept("1-1", "Dose", system=LOINC),
                "valueQuantity": {"value": 500, "system": UCUM, "code": "mg"},
            }
        ],
    ),
    place("hanoi", 21.0285, 105.8542),
    place("bachmai", 21.0003, 105.8412),
    place("saigon", 10.7769, 106.7009),
    place("fiji", -17.0, 179.99),
    place("pole", 89.99, 10),
    {
        "resourceType": "List",
        "id": "l1",
        "status": "current",
        "mode": "working",
        "entry": [{"item": {"reference": "Patient/p2"}}, {"item": {"reference": "Condition/c3"}}],
    },
    {
        "resourceType": "List",
        "id": "l2",
        "status": "current",
        "mode": "changes",
        "entry": [
            {"item": {"reference": "Patient/p1"}, "deleted": True},
            {"item": {"reference": "Patient/p2"}, "deleted": True},
            {"item": {"reference": "Patient/p2"}},
            {"item": {"reference": "Patient/p3"}, "deleted": False},
            {"item": {"reference": "Condition/c3"}, "deleted": True},
            {"item": {"display": "nobody"}},
        ],
    },
    {"resourceType": "Group", "id": "gr", "type": "person", "actual": True, "code": concept("J00", "Cold")},
    {
        "resourceType": "Procedure",
        "id": "pr1",
        "status": "completed",
        "subject": {"reference": "Group/gr"},
        "usedCode": [{"text": "x"}],
    },
    {
        "resourceType": "MolecularSequence",
        "id": "m1",
        "coordinateSystem": 0,
        "referenceSeq": {
            "chromosome": concept("17", "17", system="urn:c"),
            "referenceSeqId": concept("NC_9", "NC_9", system="urn:r"),
            "windowStart": 100,
            "windowEnd": 200,
        },
        "variant": [{"start": 110, "end": 120}, {"start": 150, "end": 190}, {"start": 5}],
    },
    {
        "resourceType": "ValueSet",
        "id": "diabetes",
        "status": "active",
        "url": "http://x.vn/ValueSet/diabetes",
        "compose": {"include": [{"system": ICD, "concept": [{"code": "E10"}, {"code": "E11.9"}]}]},
    },
    {
        "resourceType": "ValueSet",
        "id": "unknown",
        "status": "active",
        "url": "http://x.vn/ValueSet/unknown",
        "compose": {"include": [{"system": "urn:nobody"}]},
    },
)
LOADED = """
with s as (insert into code_system (url, version, title, file_name, digest, language, concept_count)
           values ($1, '', '', 'f', '', 'en', 4) returning id)
insert into concept (code_system_id, code, place, parents, display)
select id, code, place, array_remove(array[parent], null), code from s,
    (values ('E10-E14', 1, null), ('E10', 2, 'E10-E14'), ('E11', 3, 'E10-E14'), ('E11.9', 4, 'E11'))
        c (code, place, parent)
"""


@pytest.fixture
async def records(module_database_url: str) -> AsyncIterator[Records]:
    opened = await Database.open(module_database_url, connections_max=4)
    made = Records(opened)
    async with opened.acquire() as connection:
        if await connection.fetchval("select not exists (select 1 from resource)"):
            await connection.execute(LOADED, ICD)
            await made.put(*WORLD)
    yield made
    await opened.close()


QUERIES: tuple[tuple[str, str, str, str], ...] = (
    # :text begins as the text of the concept, the display of a code, the text of the identifier's type
    ("Condition", "code:text", "type 2", "c1"),
    ("Condition", "code:text", "TYPE", "c1 c2"),
    ("Condition", "code:text", "dai thao duong", "c1"),
    ("Condition", "code:text", "diabetes", ""),
    ("Condition", "code:text", "cảm lạnh,type 1", "c2 c3"),
    ("Patient", "identifier:text", "ma benh an", "p1"),
    ("Patient", "identifier:of-type", f"{KIND}|MR|1", "p1"),
    ("Patient", "identifier:of-type", f"{KIND}|MR|2", ""),
    ("Patient", "identifier:of-type", f"|MR|1,{KIND}|PPN|1", "p2"),
    ("Observation", "combo-code:text", "dose", "k1"),
    # value sets and hierarchies
    ("Condition", "code:in", "http://x.vn/ValueSet/diabetes", "c1 c2"),
    ("Condition", "code:in", "ValueSet/diabetes", "c1 c2"),
    ("Condition", "code:not-in", "ValueSet/diabetes", "c3"),
    ("Patient", "gender:in", "http://hl7.org/fhir/ValueSet/administrative-gender", "p1 p2"),
    ("Patient", "gender:not-in", "http://hl7.org/fhir/ValueSet/administrative-gender", "p3"),
    ("Condition", "code:below", f"{ICD}|E10-E14", "c1 c2"),
    ("Condition", "code:below", f"{ICD}|E11", "c1"),
    ("Condition", "code:above", f"{ICD}|E11.9", "c1"),
    ("Patient", "_has:Condition:patient:code:below", f"{ICD}|E11", "p1"),
    ("Condition", "subject:Patient.identifier:of-type", f"{KIND}|PPN|1", "c2"),
    # units
    ("Observation", "value-quantity", f"1|{UCUM}|g/L", "g1 g2 g4"),
    ("Observation", "value-quantity", f"1000|{UCUM}|mg/L", "g1 g2 g4"),
    ("Observation", "value-quantity", f"1000.0|{UCUM}|mg/L", "g1 g2"),
    ("Observation", "value-quantity", f"gt0.9999|{UCUM}|g/L", "g1 g2"),
    ("Observation", "value-quantity", f"lt0.001|{UCUM}|kg/L", "g4"),
    ("Observation", "value-quantity", f"ap95|{UCUM}|mg/dL", "g1 g2 g4"),
    ("Observation", "value-quantity", f"ne1|{UCUM}|g/L", ""),
    ("Observation", "value-quantity", f"5500|{UCUM}|umol/L", "g3"),
    ("Observation", "value-quantity", "1||g/L", "g1"),
    ("Observation", "value-quantity", f"37.0|{UCUM}|Cel", "t1 t2"),
    ("Observation", "value-quantity", f"ge310.15|{UCUM}|K", "t1 t2"),
    ("Observation", "value-quantity", f"700|{UCUM}|%", ""),
    ("Observation", "value-quantity", f"300|{UCUM}|%", "k1"),
    ("Observation", "code-value-quantity", f"{LOINC}|2345-7$1|{UCUM}|g/L", "g1 g2 g4"),
    ("Observation", "component-code-value-quantity", f"1-1$0.5|{UCUM}|g", "k1"),
    ("Observation", "component-code-value-quantity", f"1-1$gt500000|{UCUM}|ug", ""),
    ("Observation", "component-code-value-quantity:missing", "false", "k1"),
    ("Observation", "code-value-quantity:missing", "true", ""),
    # places
    ("Location", "near", "21.0285|105.8542", "hanoi bachmai"),
    ("Location", "near", "21.0285|105.8542|3|km", "hanoi"),
    ("Location", "near", "21.0285|105.8542|3.5", "hanoi bachmai"),
    ("Location", "near", "21.0285|105.8542|800|[mi_us]", "hanoi bachmai saigon"),
    ("Location", "near", "-17|-179.99|5|km", "fiji"),
    ("Location", "near", "89.99|-170|3000|m", "pole"),
    ("Location", "near", "0|0|1|m,10.7769|106.7009|1|m", "saigon"),
    ("Location", "near:missing", "true", ""),
    # words
    ("Patient", "_text", "sot", "p1"),
    ("Patient", "_text", "bệnh nhân", "p1 p2"),
    ("Patient", "_text", "benh and (sot OR ho)", "p1 p2"),
    ("Patient", "_text", "benh not ho", "p1"),
    ("Patient", "_text", "div,ho", "p2"),
    ("Patient", "_text:missing", "true", "p3"),
    ("Patient", "phonetic", "smyth", "p2"),
    ("Patient", "phonetic", "Katherine", "p2"),
    ("Patient", "phonetic", "Ngyuen,suan", "p1 p3"),
    ("Patient", "phonetic", "xuan nguyen", "p1 p3"),
    ("Patient", "phonetic", "Duc", "p1"),
    # lists and composites
    ("Patient", "_list", "l1", "p2"),
    ("Condition", "_list", "List/l1", "c3"),
    ("Patient", "_list", "none", ""),
    ("Patient", "_list", "l2", "p2 p3"),
    ("Condition", "_list", "l2", ""),
    ("Condition", "_list", "l1,l2", "c3"),
    ("Patient", "_has:List:item:_id", "l2", "p1 p2 p3"),
    ("MolecularSequence", "chromosome-window-coordinate", "urn:c|17$lt150$gt150", "m1"),
    ("MolecularSequence", "chromosome-window-coordinate", "urn:c|17$gt150$gt150", ""),
    ("MolecularSequence", "chromosome-window-coordinate", "urn:c|$100$200", "m1"),
    ("MolecularSequence", "chromosome-variant-coordinate", "17$110$120", "m1"),
    ("MolecularSequence", "chromosome-variant-coordinate", "urn:c|17$gt140$lt200", "m1"),
    ("MolecularSequence", "chromosome-variant-coordinate", "17$110$190", ""),
    ("MolecularSequence", "chromosome-variant-coordinate", "17$lt110$gt1", ""),
    ("MolecularSequence", "chromosome-variant-coordinate", "18$110$120", ""),
    ("MolecularSequence", "chromosome-variant-coordinate", "17$110$ne120,urn:c|17$le150$ge190", "m1"),
    ("MolecularSequence", "referenceseqid-variant-coordinate", "urn:r|NC_9$ge110$le120", "m1"),
    ("MolecularSequence", "referenceseqid-variant-coordinate:missing", "false", "m1"),
    # _filter
    ("Patient", "_filter", 'name co "uye"', "p1 p3"),
    ("Patient", "_filter", "family eq nguyen and birthdate ge 1990", "p3"),
    ("Patient", "_filter", "family eq nguye", ""),
    ("Patient", "_filter", "family sw nguye", "p1 p3"),
    ("Patient", "_filter", "family ew th", "p2"),
    ("Patient", "_filter", "gender eq male or gender eq female and birthdate gt 1985", "p2"),
    ("Patient", "_filter", "gender eq male or (gender eq female and birthdate gt 1985)", "p1 p2"),
    ("Patient", "_filter", "not (gender eq male)", "p2 p3"),
    ("Patient", "_filter", "gender ne male", "p2"),
    ("Patient", "_filter", "gender pr false", "p3"),
    ("Patient", "_filter", "birthdate po 1990-05", "p2"),
    ("Patient", "_filter", "birthdate sa 1990", "p3"),
    ("Patient", "_filter", "birthdate eb 1990-01-01", "p1"),
    ("Patient", "_filter", f"_has:Condition:patient:code eq {ICD}|J00", "p1"),
    ("Condition", "_filter", "code in ValueSet/diabetes", "c1 c2"),
    ("Condition", "_filter", "code ni ValueSet/diabetes", "c3"),
    ("Condition", "_filter", f"code ss {ICD}|E11", "c1"),
    ("Condition", "_filter", f"code sb {ICD}|E11.9", "c1"),
    ("Condition", "_filter", "subject re Patient/p2", "c2"),
    ("Condition", "_filter", "subject:Patient.family eq smith", "c2"),
    ("Condition", "_filter", "patient[gender eq male].name co duc and not(code eq J00)", "c1"),
    ("Procedure", "_filter", "subject.type eq person and status eq completed", "pr1"),
    ("Procedure", "_filter", "subject[type eq person].code eq J00 and (status eq completed)", "pr1"),
    ("Procedure", "_filter", "subject.type eq animal or status eq stopped", ""),
    ("Observation", "_filter", f"value-quantity gt 0.9999|{UCUM}|g/L", "g1 g2"),
    ("Location", "_filter", "near eq 21.0285|105.8542|3|km", "hanoi"),
)


@pytest.mark.parametrize(("type_name", "name", "value", "expected"), QUERIES)
async def test_a_query_finds_exactly(records: Records, type_name: str, name: str, value: str, expected: str) -> None:
    assert await records.ids(type_name, (name, value)) == expected.split()


@pytest.mark.parametrize(("type_name", "name", "value", "expected"), [one for one in QUERIES if one[1] == "_filter"])
async def test_a_filter_finds_the_same_when_chains_are_walked(
    records: Records, monkeypatch: pytest.MonkeyPatch, type_name: str, name: str, value: str, expected: str
) -> None:
    monkeypatch.setattr(probe, "NARROW_MAX", 0)
    assert await records.ids(type_name, (name, value)) == expected.split()


REFUSED: tuple[tuple[str, str, str, type[Exception]], ...] = (
    ("Condition", "code:in", "http://x.vn/none", Invalid),
    ("Condition", "code:in", "ValueSet/none", Invalid),
    ("Condition", "code:in", "ValueSet/unknown", Invalid),
    ("Condition", "code:below", f"{ICD}|X", Invalid),
    ("Condition", "code:below", "E11", Invalid),
    ("Condition", "code:of-type", "a|b|c", NotSupported),
    ("Patient", "active:text", "x", NotSupported),
    ("Patient", "identifier:in", "x", NotSupported),
    ("Patient", "identifier:of-type", "MR|1", Invalid),
    ("Patient", "name:same", "x", NotSupported),
    ("Patient", "birthdate", "po1990", Invalid),
    ("Location", "near", "21", Invalid),
    ("Location", "near", "91|0", Invalid),
    ("Location", "near", "1|0|5|kg", Invalid),
    ("Location", "near", "1|0|-5|km", Invalid),
    ("Patient", "_text", '"a phrase"', NotSupported),
    ("Patient", "_text", "(a", Invalid),
    ("Patient", "_text", "a or", Invalid),
    ("Patient", "_text", "(" * 20 + "a" + ")" * 20, TooMuch),
    ("Patient", "_query", "a", NotSupported),
    ("Patient", "_containedType", "both", Invalid),
    ("Patient", "_list", "$current-problems", NotSupported),
    ("Patient", "phonetic", "1", Invalid),
    ("Patient", "_filter", "name xx a", NotSupported),
    ("Patient", "_filter", "name ne a", NotSupported),
    ("Patient", "_filter", "gender gt male", NotSupported),
    ("Patient", "_filter", "nonsense eq a", NotSupported),
    ("Patient", "_filter", "name co", Invalid),
    ("Procedure", "_filter", "subject[type eq person] eq x", NotSupported),
    ("Patient", "_filter", "name[family eq x].given eq y", NotSupported),
    ("Patient", "_filter", "(gender eq male", Invalid),
    ("Patient", "_filter", "gender eq male)", Invalid),
    ("Patient", "_filter", 'name co "a', Invalid),
    ("Patient", "_filter", "gender eq male birthdate eq 1990", Invalid),
    ("Patient", "_filter", "not(" * 20 + "gender eq male" + ")" * 20, TooMuch),
)


@pytest.mark.parametrize(("type_name", "name", "value", "error"), REFUSED)
async def test_what_cannot_be_answered_is_refused_by_name(
    records: Records, type_name: str, name: str, value: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as refused:
        await records.ids(type_name, (name, value))
    assert getattr(refused.value, "issues")[0].at  # noqa: B009 - every refusal of ours names the parameter


async def test_what_stands_for_too_much_is_refused(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "search_codes_max", 1)
    for name, value in (("code:text", "type"), ("code:in", "ValueSet/diabetes"), ("code:below", f"{ICD}|E10-E14")):
        with pytest.raises(TooMuch) as refused:
            await records.ids("Condition", (name, value))
        assert refused.value.issues[0].at == name
    assert await records.ids("Condition", ("code:text", "type 2")) == ["c1"]


def test_of_a_long_narrative_the_first_words_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "narrative_words_max", 2)
    assert narrative_words("<div>một hai <b>ba</b></div>") == ["mot", "hai"]


@pytest.mark.parametrize(
    "name", ["Nguyễn", "Trần", "Phạm", "Quỳnh", "Giang", "Smith", "O'Brien", "Müller", "Đặng", "Ng"]
)
def test_a_name_sounds_like_itself(name: str) -> None:
    for word in words(name):
        assert sound(word) in sounds(word)
