"""StructureDefinitions as short as a test can say them, and the check of a resource against them."""

from collections.abc import Mapping
from typing import Any

from ehr.errors import Issue
from ehr.fhir.profiles.check import check
from ehr.fhir.profiles.element import places
from ehr.fhir.profiles.library import CodeQuestion, Library
from ehr.fhir.validate import validate

CORE = "http://hl7.org/fhir/StructureDefinition/"
HERE = "http://example.org/StructureDefinition/"

Tree = dict[str, Any]


def definition(name: str, type_name: str, *elements: Tree, base: str | None = None, **more: Any) -> Tree:
    """A profile by its differential; base: of another profile here."""
    return {
        "resourceType": "StructureDefinition",
        "url": HERE + name,
        "name": name,
        "status": "active",
        "kind": "resource" if type_name[:1].isupper() else "complex-type",
        "abstract": False,
        "type": type_name,
        "derivation": "constraint",
        "baseDefinition": HERE + base if base else CORE + type_name,
        "differential": {"element": list(elements) or [{"path": type_name}]},
        **more,
    }


def stored(tree: Tree) -> Tree:
    """A definition as the gate takes it: with its first element, and an id on each (sdf-8b, sdf-14)."""
    if tree["resourceType"] != "StructureDefinition":
        return tree
    elements = tree["differential"]["element"]
    if elements[0]["path"] != tree["type"]:
        elements = [{"path": tree["type"]}, *elements]
    named = [
        {**place.element, "id": ".".join([tree["type"], *(":".join(filter(None, step)) for step in place.steps)])}
        for place in places(elements, tree["type"])
    ]
    return {**tree, "differential": {"element": named}}


def element(path: str, **more: Any) -> Tree:
    return {"path": path, **more}


def sliced(path: str, *discriminators: tuple[str, str], rules: str = "open", **more: Any) -> Tree:
    by = [{"type": kind, "path": at} for kind, at in discriminators]
    return {"path": path, "slicing": {"discriminator": by, "rules": rules, **more}}


def reference_to(*names: str) -> list[Tree]:
    return [{"code": "Reference", "targetProfile": [name if ":" in name else HERE + name for name in names]}]


def found(
    tree: Tree, *definitions: Tree, against: str | None = None, codes: Mapping[tuple[str, str], bool] | None = None
) -> list[Issue]:
    """Issues of a valid resource against the first definition; codes: (value set, code) → whether it is in it."""
    assert validate(tree) == [], "the gate takes it"
    library = Library()
    known = {one["url"]: one for one in definitions} | {
        f"{one['url']}|{one['version']}": one for one in definitions if "version" in one
    }
    for _ in range(20):
        issues = check(tree, [against or definitions[0]["url"]], library)
        wanted = library.wanted()
        if not wanted:
            return issues
        for canonical in wanted.profiles:
            library.tell_profile(canonical, known.get(canonical))
        for question in wanted.codes:
            library.tell_code(question, _answer(question, codes or {}))
    raise AssertionError("the check never stops asking")


def _answer(question: CodeQuestion, codes: Mapping[tuple[str, str], bool]) -> bool | None:
    if question.value_set in {value_set for value_set, _ in codes}:
        return codes.get((question.value_set, question.code), False)
    return None


def errors(tree: Tree, *definitions: Tree, **more: Any) -> list[str | None]:
    """The places of the errors."""
    return [issue.at for issue in found(tree, *definitions, **more) if issue.severity == "error"]


def patient(**more: Any) -> Tree:
    return {"resourceType": "Patient", **more}


def observation(**more: Any) -> Tree:
    code = {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}
    return {"resourceType": "Observation", "status": "final", "code": code, **more}


def extension(name: str, *elements: Tree, **more: Any) -> Tree:
    """The definition of an extension."""
    url = element("Extension.url", fixedUri=HERE + name)
    anywhere = [{"type": "element", "expression": "Element"}]
    return definition(name, "Extension", *elements, url, **{"context": anywhere, **more})
