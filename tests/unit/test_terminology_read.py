"""terminology.load.read: files are read, or refused with the place of what is wrong."""

import orjson
import pytest

from terminology.errors import Unreadable
from terminology.load import read
from terminology.resources import CodeSystem, Concept, Designation


@pytest.mark.parametrize(
    ("name", "content", "at"),
    [
        ("x.json", "{", None),
        ("x.json", {"resourceType": "Patient"}, "resourceType"),
        ("x.json", {"resourceType": "CodeSystem", "concept": [{"code": "a"}]}, "CodeSystem.url"),
        ("x.json", {"resourceType": "CodeSystem", "url": "u", "content": "not-present"}, "CodeSystem.content"),
        ("x.json", {"resourceType": "CodeSystem", "url": "u", "concept": [{}]}, "CodeSystem.concept[0].code"),
        (
            "x.json",
            {"resourceType": "CodeSystem", "url": "u", "concept": [{"code": "a"}, {"code": "a"}]},
            "CodeSystem.concept",
        ),
        ("x.json", {"resourceType": "ValueSet", "url": "u", "compose": {}}, "ValueSet.compose"),
        ("x.json", {"resourceType": "ConceptMap", "url": "u"}, "ConceptMap.group"),
        ("x.csv", "code,name_vi\n", None),
        ("x.csv", "code,name_vi\na,\n", "line 2"),
        ("x.csv", "code,name_vi\n,A\n", "line 2"),
        ("x.csv", "code,name_vi\na,A,B\n", "line 2"),
        ("x.csv", "number,name\n1,A\n", "line 1"),
        ("x.csv", 'code,name_vi\n"a,A\n', "line 2"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(name: str, content: object, at: str | None) -> None:
    body = content.encode() if isinstance(content, str) else orjson.dumps(content)
    with pytest.raises(Unreadable) as refused:
        read(body, name, system="http://example.org/s")
    assert refused.value.at == at


def test_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(Unreadable):
        read("code,name_vi\na,Việt\n".encode("cp1258", "replace") + b"\xff", "x.csv", system="http://example.org/s")


def test_marks_of_icd_10_are_no_part_of_the_code() -> None:
    text = "code,code_nodot,name_en,name_vi,category\nA17.0†,A170,Tuberculous meningitis,Viêm màng não do lao,A17†\n"
    (read_system,) = read(text.encode(), "icd.csv")
    assert isinstance(read_system, CodeSystem)
    assert read_system.concepts == {
        "A17.0": Concept(
            code="A17.0",
            display="Viêm màng não do lao",
            parents=("A17",),
            properties={"mark": ({"valueString": "dagger"},)},
            designations=(Designation("Tuberculous meningitis", "en"),),
        ),
    }
