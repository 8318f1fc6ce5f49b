"""ehr.fhir.accept and ehr.fhir.explain are two readers of one rule: what one accepts, the other finds right.

The resources are the project's own examples, and Synthea where it is present, each changed at random in one to three
places.
"""

import copy
import gzip
import os
import random
from pathlib import Path
from typing import Any

import pytest

from ehr.fhir import codec
from ehr.fhir.accept import accepts
from ehr.fhir.accepted_texts import COUNT_MAX, REMEMBERED, TARGETS
from ehr.fhir.explain import explain
from tests.unit.test_fhir_validate import ALL

SHARED = Path(os.environ.get("EHR_SHARED", Path(__file__).parents[3] / "shared"))
ROUNDS = 4_000

VALUES: list[Any] = [
    None,
    "",
    " ",
    {},
    [],
    [None],
    [{}],
    0,
    -1,
    1.5,
    10**12,
    True,
    "x",
    "a  b",
    "a\nb",
    "\u00a0",
    "2024-02-29",
    "2023-02-29",
    "2024-01-01T00:00:00Z",
    "12:00:00",
    "#p1",
    "Patient/1",
    "Patient/",
    "Practitioner/a",
    "urn:uuid:1",
    "http://x/y",
    "final",
    "<div>a</div>",
    {"reference": "#x"},
    {"reference": "Foo/1"},
    {"coding": [{"code": ["x"]}]},
    {"extension": [{"url": "u", "valueString": "x"}]},
    {"start": "2024-01-02", "end": "2024-01-01"},
    {"value": 1, "code": "c"},
    {"id": "a"},
]
NAMES = (
    *("foo", "_status", "_id", "id", "valueString", "valueQuantity", "valueInteger", "_valueString", "extension"),
    *("resourceType", "contained", "meta", "modifierExtension", "code", "text", "value", "system", "status"),
    *("component", "dataAbsentReason"),
)


def containers(node: Any) -> list[Any]:
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    found = [inner for item in below for inner in containers(item)]
    return [node, *found] if isinstance(node, dict | list) else found


def spoil(tree: Any, chance: random.Random) -> None:
    """Change one thing somewhere in the tree: take out, replace, rename, add or repeat."""
    node = chance.choice(containers(tree))
    value = copy.deepcopy(chance.choice(VALUES))
    if isinstance(node, list):
        if node and chance.random() < 0.5:
            node[chance.randrange(len(node))] = value
        else:
            node.append(copy.deepcopy(chance.choice(node)) if node else value)
        return
    names = sorted(node)
    match chance.randrange(4) if names else 3:
        case 0:
            del node[chance.choice(names)]
        case 1:
            node[chance.choice(names)] = value
        case 2:
            name = chance.choice(names)
            node[chance.choice([*NAMES, f"_{name}", f"{name}x"])] = node.pop(name)
        case _:
            node[chance.choice(NAMES)] = value


def agree(trees: list[dict[str, Any]], rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    accepted = 0
    for _ in range(rounds):
        tree = copy.deepcopy(chance.choice(trees))
        for _ in range(chance.randrange(1, 4)):
            spoil(tree, chance)
        issues = explain(tree)
        if accepts(tree):
            accepted += 1
            assert issues == [], tree
    assert 0 < accepted < rounds


def test_no_changed_resource_is_accepted_that_would_be_explained() -> None:
    agree(list(ALL.values()), ROUNDS, seed=1)


def observation(system: str, code: str, moment: str = "2026-11-23", subject: str = "Patient/1") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": system, "code": code}]},
        "subject": {"reference": subject},
        "effectiveDateTime": moment,
    }


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (observation("urn:x", "a b"), observation("a b", "a")),
        (observation("urn:x", "2026-02-30"), observation("urn:x", "a", "2026-02-30")),
        (observation("Practitioner/2", "a"), observation("urn:x", "a", subject="Practitioner/2")),
        (observation("urn:x", "a") | {"performer": [{"reference": "Practitioner/3"}]},
         observation("urn:x", "a", subject="Practitioner/3")),
        (observation("urn:x", "#p1"), observation("urn:x", "a", subject="#p1")),
    ],
)  # fmt: skip
def test_a_text_that_was_right_in_one_place_is_asked_for_in_another(
    right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    assert accepts(right)
    assert not accepts(wrong)
    assert explain(wrong)


def test_a_full_memory_of_texts_is_emptied_and_forgets_no_rule() -> None:
    for number in range(COUNT_MAX + 10):
        assert accepts(observation("urn:x", f"c{number}", subject=f"Patient/{number}"))
    codes, _ = REMEMBERED["code"]
    assert max(len(codes), len(TARGETS)) <= COUNT_MAX
    assert accepts({"resourceType": "Observation", "status": "final", "code": {"coding": [{"display": "x"}]}})
    assert not accepts(observation("urn:x", "c1 "))
    assert not accepts(observation("urn:x", "c1", subject="Practitioner/1"))


def test_our_own_examples_are_accepted_at_once() -> None:
    assert [name for name, tree in ALL.items() if not accepts(tree)] == ["Bundle"]


def synthea(name: str) -> list[bytes]:
    folder = SHARED / "data" / name / "ndjson"
    if not folder.is_dir():
        pytest.skip("shared data absent")
    return [line for file in sorted(folder.glob("*.gz")) for line in gzip.decompress(file.read_bytes()).splitlines()]


def test_every_resource_of_synthea_is_valid_and_accepted_at_once() -> None:
    lines = synthea("synthea-10")
    assert len(lines) == 1_908
    for line in lines:
        tree = codec.loads(line)
        assert explain(tree) == []
        assert accepts(tree)


def test_no_changed_resource_of_synthea_is_accepted_that_would_be_explained() -> None:
    lines = synthea("synthea-10")
    agree([codec.loads(line) for line in lines[::20]], ROUNDS, seed=2)
