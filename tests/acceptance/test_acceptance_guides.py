"""Guides that others wrote: their packages, their examples, and examples that break a rule of the guide.

EHR_GUIDE_PACKAGES names a folder with the npm packages of GUIDES and BESIDE, each unpacked in a folder of its own
(hl7.fhir.au.base-6.0.0/package/…).
"""

import os
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest

from ehr.access.policy import Caller
from ehr.bulk.package import files_of, load
from ehr.errors import Issue
from ehr.fhir import codec
from ehr.fhir.validate import validate
from ehr.store.record import Record

PLACE = os.environ.get("EHR_GUIDE_PACKAGES")

BESIDE: Final = (
    "hl7.fhir.r4.expansions-4.0.1",
    "hl7.terminology.r4-7.0.1",
    "hl7.fhir.uv.extensions.r4-5.3.0-ballot-tc1",
)
"""What guides name: R4's own value sets, the terminology and the extensions of HL7."""

GUIDES: Final[dict[str, tuple[int, set[str]]]] = {
    "hl7.fhir.au.base-6.0.0": (123, set()),
    "hl7.fhir.us.mcode-4.0.0": (179, {"tnm-pathologic-distant-metastases-category-jenny-m"}),
    "hl7.fhir.uv.genomics-reporting-3.0.0": (204, set()),
    "hl7.fhir.uv.ips-2.0.0": (44, set()),
    "hl7.fhir.uv.sdc-4.0.0-ballot": (50, set()),
}
"""How many examples a guide has, and which break what they claim (docs/conformance.md says why)."""

pytestmark = pytest.mark.skipif(not PLACE, reason="EHR_GUIDE_PACKAGES names no folder with packages of guides")

Tree = dict[str, Any]


@pytest.mark.parametrize("guide", GUIDES)
async def test_examples_of_a_guide_conform_and_broken_ones_do_not(record: Record, guide: str) -> None:
    folder = Path(str(PLACE))
    for package in (*BESIDE, guide):
        loaded = await load(record, folder / package)
        assert package in BESIDE or loaded.refused == []
    count, refused = GUIDES[guide]
    examples = [codec.loads(body) for _, body in files_of(folder / guide / "package" / "example")]
    assert len(examples) == count
    wrong = {str(tree["id"]): found for tree in examples if (found := await errors(record, tree))}
    assert wrong.keys() == refused, wrong
    profiles = {str(tree.get("url")): tree for _, body in files_of(folder / guide) if (tree := codec.loads(body))}
    passed = [
        (tree["id"], at)
        for tree in examples
        if tree["id"] not in refused
        for profile in tree.get("meta", {}).get("profile", ())
        if profile in profiles
        for at, broken in broken_copies(tree, profiles[profile])
        if not any(is_told(at, str(issue.at)) for issue in await errors(record, broken))
    ]
    assert passed == []


async def errors(record: Record, tree: Tree) -> list[Issue]:
    found = validate(tree)
    if not any(issue.code == "structure" for issue in found):
        async with record.reading(Caller.system("test")) as uow:
            found = [*found, *await record.profiles.problems(uow, tree)]
    return [issue for issue in found if issue.severity == "error"]


def is_told(wrong: str, at: str) -> bool:
    """At its place, or at what holds it where nothing is left in that."""
    return at.startswith(wrong) or at == wrong.rpartition(".")[0]


def broken_copies(tree: Tree, profile: Tree) -> Iterator[tuple[str, Tree]]:
    """The resource without each element the profile demands, and with another value where it says which; not in slices.

    With the place where it is wrong.
    """
    for element in profile["snapshot"]["element"]:
        way = element["path"].split(".")[1:]
        if not way or ":" in element["id"] or way[-1].endswith("[x]"):
            continue
        says = any(name.startswith(("fixed", "pattern")) for name in element)
        copies = deepcopy(tree)
        for number, (_, at) in enumerate(holders(copies, way, profile["type"])):
            for wanted, change in ((element["min"] > 0, dict.pop), (says, spoil)):
                if wanted:
                    broken = deepcopy(tree)
                    holder, _ = list(holders(broken, way, profile["type"]))[number]
                    change(holder, way[-1])
                    yield f"{at}.{way[-1]}", broken


def holders(node: Any, way: list[str], at: str) -> Iterator[tuple[Tree, str]]:
    """The objects that have the element at the end of the way, each with its path."""
    if not isinstance(node, dict) or way[0] not in node:
        return
    if len(way) == 1:
        yield node, at
        return
    below = node[way[0]]
    for number, one in enumerate(below if isinstance(below, list) else [below]):
        place = f"[{number}]" if isinstance(below, list) else ""
        yield from holders(one, way[1:], f"{at}.{way[0]}{place}")


def spoil(holder: Tree, name: str) -> None:
    """Another value of the same form."""
    holder[name] = other(holder[name])


def other(value: Any) -> Any:
    match value:
        case dict():
            return {name: other(one) for name, one in value.items()}
        case list():
            return [other(one) for one in value]
        case bool():
            return not value
        case str():
            return value + "z"
        case _:
            return value + 1
