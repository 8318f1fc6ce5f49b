"""terminology: lists are loaded once, found again in both languages, and refused whole where they are wrong."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import orjson
import pytest

from ehr.fhir.structure import codes
from terminology import codesystem, conceptmap, hierarchy, read_fhir
from terminology.codesystem import Found
from terminology.conceptmap import Looking
from terminology.connection import Connection
from terminology.errors import Unreadable
from terminology.lists import ICD_10, LOINC, SERVICE
from terminology.load import Loaded, Progress
from terminology.load import load as load_file
from terminology.read_csv import ICD_9_CM
from terminology.resources import Group, Mapped
from terminology.valueset import Membership, validate_code

COLOURS = {
    "resourceType": "CodeSystem",
    "url": "http://example.org/colours",
    "version": "1",
    "language": "en",
    "content": "complete",
    "concept": [
        {
            "code": "warm",
            "display": "Warm",
            "property": [{"code": "notSelectable", "valueBoolean": True}],
            "concept": [
                {"code": "red", "display": "Red", "designation": [{"language": "vi", "value": "Đỏ"}]},
                {"code": "orange", "display": "Orange", "concept": [{"code": "amber", "display": "Amber"}]},
            ],
        },
        {"code": "blue", "display": "Blue", "property": [{"code": "tone", "valueCode": "cold"}]},
    ],
}


def value_set(name: str, **compose: object) -> dict[str, object]:
    return {"resourceType": "ValueSet", "url": f"http://example.org/vs/{name}", "compose": compose}


WARM = value_set(
    "warm",
    include=[{"system": COLOURS["url"], "filter": [{"property": "concept", "op": "descendent-of", "value": "warm"}]}],
    exclude=[{"system": COLOURS["url"], "concept": [{"code": "amber"}]}],
)
COLD = value_set(
    "cold", include=[{"system": COLOURS["url"], "filter": [{"property": "tone", "op": "=", "value": "cold"}]}]
)
ALL = value_set("all", include=[{"system": COLOURS["url"]}])
BOTH = value_set("both", include=[{"system": COLOURS["url"], "valueSet": ["http://example.org/vs/warm"]}])
MAP = {
    "resourceType": "ConceptMap",
    "url": "http://example.org/map",
    "group": [
        {
            "source": COLOURS["url"],
            "target": "http://example.org/other",
            "element": [
                {"code": "red", "target": [{"code": "R", "equivalence": "equivalent"}]},
                {"code": "blue"},
            ],
        }
    ],
}


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


def written(folder: Path, name: str, content: object) -> Path:
    file = folder / name
    body = content.encode() if isinstance(content, str) else orjson.dumps(content)
    file.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    return file


async def load(
    connection: Connection,
    file: Path,
    *,
    system: str | None = None,
    version: str | None = None,
    progress: Progress | None = None,
) -> list[Loaded]:
    async with connection.transaction():
        return await load_file(connection, file, system=system, version=version, progress=progress)


async def load_all(connection: Connection, folder: Path, *trees: object) -> list[Loaded]:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": tree} for tree in trees]}
    return await load(connection, written(folder, "all.json", bundle))


async def members(connection: Connection, name: str) -> set[str]:
    rows = await connection.fetch(
        "select c.code from value_set s join value_set_code c on c.value_set_id = s.id where s.url = $1",
        f"http://example.org/vs/{name}",
    )
    return {row["code"] for row in rows}


async def test_a_code_system_is_found_again_in_both_languages(connection: Connection, tmp_path: Path) -> None:
    loaded = await load_all(connection, tmp_path, COLOURS)
    assert loaded == [Loaded("CodeSystem", "http://example.org/colours", "1", 5, changed=True)]
    found = await found_of(connection, "red")
    assert (found.name("vi"), found.concept and found.concept.parents, found.system.version) == ("Đỏ", ("warm",), "1")
    assert [(one["language"], one["value"]) for one in found.told()] == [("en", "Red"), ("vi", "Đỏ")]
    assert (await found_of(connection, "amber")).name("vi") == "Amber"
    unknown = await codesystem.find(connection, "http://example.org/colours", "green")
    assert unknown is not None
    assert unknown.concept is None
    heading = (await found_of(connection, "warm")).concept
    assert heading is not None
    assert not heading.selectable


@pytest.mark.parametrize(("meaning", "count"), [("is-a", 4), ("part-of", 1), ("grouped-by", 1)])
async def test_only_what_is_of_its_kind_is_below_a_code(
    connection: Connection, tmp_path: Path, meaning: str, count: int
) -> None:
    await load_all(connection, tmp_path, COLOURS)
    await load_all(connection, tmp_path, {**COLOURS, "hierarchyMeaning": meaning})
    assert len(await hierarchy.below(connection, "http://example.org/colours", "warm", 9)) == count
    assert len(await hierarchy.above(connection, "http://example.org/colours", "red", 9)) == min(count, 2)


async def found_of(connection: Connection, code: str, version: str | None = None) -> Found:
    """As a page finds it: in the version loaded last that has it."""
    key = ("http://example.org/colours", code)
    return (await codesystem.find_each(connection, [key], {key[0]: version} if version else {}))[key]


async def test_loading_again_changes_nothing_and_other_content_replaces(connection: Connection, tmp_path: Path) -> None:
    await load_all(connection, tmp_path, COLOURS, WARM, MAP)
    before = await connection.fetch("select id from code_system union select id from value_set")
    assert [one.changed for one in await load_all(connection, tmp_path, COLOURS, WARM, MAP)] == [False] * 3
    assert await connection.fetch("select id from code_system union select id from value_set") == before
    other = {**COLOURS, "concept": [{"code": "green", "display": "Green"}]}
    assert [one.changed for one in await load_all(connection, tmp_path, other)] == [True]
    assert await connection.fetchval("select count(*) from concept") == 1
    assert await connection.fetchval("select count(*) from designation") == 0


async def test_versions_stand_side_by_side(connection: Connection, tmp_path: Path) -> None:
    newer = {**COLOURS, "version": "2", "concept": [{"code": "red", "display": "Crimson"}]}
    await load_all(connection, tmp_path, COLOURS)
    await load_all(connection, tmp_path, newer)
    assert (await found_of(connection, "red")).name("en") == "Crimson"
    assert (await found_of(connection, "red", "1")).name("en") == "Red"
    assert (await found_of(connection, "blue")).name("en") == "Blue"
    gone = await codesystem.find(connection, "http://example.org/colours", "blue")
    assert gone is not None
    assert gone.concept is None


async def test_value_sets_are_expanded_when_loaded(connection: Connection, tmp_path: Path) -> None:
    await load_all(connection, tmp_path, COLOURS, WARM, COLD, ALL, BOTH)
    assert await members(connection, "warm") == {"red", "orange"}
    assert await members(connection, "cold") == {"blue"}
    assert await members(connection, "all") == {"warm", "red", "orange", "amber", "blue"}
    assert await members(connection, "both") == {"red", "orange"}


async def test_membership_is_asked_of_loaded_and_of_bound_sets(connection: Connection, tmp_path: Path) -> None:
    await load_all(connection, tmp_path, COLOURS, WARM)
    warm, colours = "http://example.org/vs/warm", "http://example.org/colours"
    assert await validate_code(connection, warm, "red", system=colours) == Membership(True, colours, "Red")
    assert (await validate_code(connection, warm, "red")).result is True
    assert (await validate_code(connection, warm, "red", system="http://other")).result is False
    assert (await validate_code(connection, warm, "blue")).result is False
    assert (await validate_code(connection, f"{warm}|9", "red")).result is None
    gender = "http://hl7.org/fhir/ValueSet/administrative-gender"
    assert (await validate_code(connection, gender, "male")).result is None
    assert (await validate_code(connection, gender, "male", bound=codes)).result is True
    assert (await validate_code(connection, f"{gender}|4.0.1", "M", bound=codes)).result is False


async def test_a_concept_map_keeps_what_has_no_match(connection: Connection, tmp_path: Path) -> None:
    await load_all(connection, tmp_path, MAP)
    kept = await conceptmap.loaded(connection, "http://example.org/map", Looking(["red", "blue"]))
    assert kept is not None
    assert kept.groups == (Group("http://example.org/colours", "http://example.org/other"),)
    assert kept.entries == (Mapped(0, "red", "R", "equivalent"), Mapped(0, "blue", "", "unmatched"))


async def test_a_broken_gzip_file_is_refused(connection: Connection, tmp_path: Path) -> None:
    file = tmp_path / "x.json.gz"
    file.write_bytes(gzip.compress(b"{}" * 1000)[:20])
    with pytest.raises(Unreadable):
        await load(connection, file)


BROKEN: tuple[tuple[str, str], ...] = (
    ('{"resourceType": "Bundle", "entry": [{"fullUrl": "urn:x"}]}', "Bundle.entry"),
    ('{"resourceType": "CodeSystem", "url": "u:x", "concept": "a"}', "CodeSystem.concept"),
    ('{"resourceType": "CodeSystem", "url": "u:x", "concept": ["a"]}', "CodeSystem.concept[0]"),
    ('{"resourceType": "CodeSystem", "url": "u:x", "concept": [{"code": "a", "property": 1}]}',
     "CodeSystem.concept[0].property"),
    ('{"resourceType": "ValueSet", "url": "u:x", "compose": []}', "ValueSet.compose"),
    ('{"resourceType": "ValueSet", "url": "u:x", "expansion": {"contains": [1]}}', "ValueSet.expansion.contains[0]"),
    ('{"resourceType": "ValueSet", "url": "u:x", "compose": {"include": [{"concept": [{}]}]}}',
     "ValueSet.compose.include[0].concept[0].code"),
    ('{"resourceType": "ConceptMap", "url": "u:x", "group": [{"source": "u:y", "element": [1]}]}',
     "ConceptMap.group[0].element[0]"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "at"), BROKEN)
def test_what_is_misshapen_is_told_with_its_place(text: str, at: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read_fhir.read(text.encode())
    assert refused.value.at == at


async def test_a_folder_is_no_file(connection: Connection, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        await load(connection, tmp_path)


async def test_one_wrong_part_leaves_nothing_of_the_file(connection: Connection, tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        await load_all(connection, tmp_path, COLOURS, value_set("absent", include=[{"system": "http://absent"}]))
    assert await connection.fetchval("select count(*) from code_system") == 0


async def test_a_plain_csv_list_is_loaded_under_the_system_given(connection: Connection, tmp_path: Path) -> None:
    file = written(tmp_path, "list.csv", "\ufeffcode,name_vi,name_en\n01,Khám bệnh,Examination\n02,Khác,\n")
    await load(connection, file, system="http://example.org/kcb", version="1")
    listed = await codesystem.code_system(connection, "http://example.org/kcb", "1")
    assert listed is not None
    assert [listed.name(one, "en") for one in listed.concepts.values()] == ["Examination", "Khác"]


def test_the_project_answers_where_nothing_is_loaded() -> None:
    known = [codesystem.own(*key) for key in ((ICD_10, "I10"), (LOINC, "718-7"))]
    names = [(one.name("vi"), one.name("en")) for one in known if one is not None]
    assert names[0][0] == "Tăng huyết áp vô căn (nguyên phát)"
    assert names[1] == ("Huyết sắc tố (HGB)", "Hemoglobin")
    assert codesystem.own(LOINC, "0-0") is None


async def test_icd_10_of_the_ministry_is_loaded(connection: Connection, shared_data: Path) -> None:
    told: list[tuple[int, int]] = []
    file = shared_data / "vn" / "icd" / "icd10_qd4469.csv.gz"
    loaded = await load(connection, file, progress=lambda done, total: told.append((done, total)))
    assert [(one.url, one.count) for one in loaded] == [(ICD_10, 12_137)]
    assert told[-1] == (12_137, 12_137)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    found = await codesystem.find(connection, ICD_10, "A17.0")
    assert found is not None
    assert found.concept is not None
    assert (found.concept.parents, found.concept.properties["mark"]) == (("A17",), ({"valueString": "dagger"},))
    assert found.name("en") == "Tuberculous meningitis (G01*)"
    assert not (await load(connection, file))[0].changed


async def test_services_of_the_ministry_are_loaded_with_their_icd_9_codes(
    connection: Connection, shared_data: Path
) -> None:
    loaded = await load(connection, shared_data / "vn" / "codes" / "dvkt_equivalent_to_icd9_qd4440.csv.gz")
    assert [one.kind for one in loaded] == ["CodeSystem", "ConceptMap"]
    assert loaded[0].count == 9_204
    service = await codesystem.find(connection, SERVICE, "02.0085.1778")
    assert service is not None
    assert service.name("vi") == "Điện tim thường"
    (found,) = await conceptmap.loaded_of(connection, frozenset({SERVICE}), Looking(["02.0085.1778"]))
    assert [(found.groups[one.group].target, one.target_code) for one in found.entries] == [(ICD_9_CM, "89.52")]
