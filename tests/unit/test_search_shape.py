"""Random searches of every served parameter: their SQL depends on the shape alone, and holds no value of the query."""

import random
import re
from typing import Any, Literal

import pytest

from ehr.access.policy import ALL_GRANTS, DIRECTORY_TYPES, AccessPredicate
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter
from ehr.fhir.r4 import TYPE_IDS
from ehr.index.hashing import Hasher
from ehr.search import served
from ehr.search.lower import Lowering, typed
from ehr.search.order import keys_of, phases_of
from ehr.search.parse import parse
from ehr.search.plan import plan
from ehr.search.served import SUPPORTED
from ehr.search.shape import HasDate, NotAfter, Values
from ehr.search.shape_statements import (
    CountOf,
    EstimateOf,
    IdsOf,
    Noted,
    PageOf,
    Shape,
)
from ehr.search.statements import sql_of

SEARCHES = 600
MARK = "qzv7"
"""Part of every text and number a query of this test holds, so that a value in the SQL is seen."""
PREFIXES = ("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")


def in_bodies(parameter: Parameter) -> bool:
    """Ordered by what is read from resources (tests.search.test_search_read)."""
    return parameter.kind in {"token", "reference", "uri"} and parameter.code != "_id"


class Asker:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0

    def text(self) -> str:
        self.number += 1
        return f"{MARK}{self.number}"

    def value(self, parameter: Parameter, modifier: str) -> str:
        pick = self.random
        if modifier == "missing":
            return pick.choice(("true", "false"))
        match parameter.kind:
            case "token" if modifier in {"above", "below"}:
                return f"urn:{self.text()}|{self.text()}"
            case "token" if modifier == "of-type":
                return f"urn:{self.text()}|{self.text()}|{self.text()}"
            case "token":
                forms = (self.text(), f"urn:{self.text()}|{self.text()}", f"|{self.text()}", f"urn:{self.text()}|")
                return pick.choice(forms)
            case "reference" if modifier == "identifier":
                return f"urn:{self.text()}|{self.text()}"
            case "reference":
                targets = sorted(TYPE_IDS if "*" in parameter.targets else parameter.targets)
                return pick.choice((*(f"{one}/{self.text()}" for one in targets[:2]), f"http://x/{self.text()}"))
            case "uri":
                return f"http://{self.text()}/a/b"
            case "string":
                return self.text()
            case "date":
                return f"{pick.choice(PREFIXES)}20{pick.randint(10, 30)}-0{pick.randint(1, 9)}"
            case "number" | "quantity":
                measured = f"{pick.choice(PREFIXES)}{pick.randint(10, 99)}775533.5"
                units = ("", f"||{self.text()}", f"|urn:{self.text()}|{self.text()}")
                return measured + (pick.choice(units) if parameter.kind == "quantity" else "")
            case "special":
                return f"{pick.randint(10, 89)}.775533|{pick.randint(10, 99)}.775533|{pick.randint(1, 9)}775533|m"
            case _:
                known = parameters.of(parameter.type_name)
                return "$".join(self.of_component(known[one.code]) for one in parameter.components)

    def of_component(self, parameter: Parameter) -> str:
        return f"urn:{self.text()}|{self.text()}" if parameter.kind == "token" else self.value(parameter, "")

    def pair(self, type_name: str, depth: int = 0) -> tuple[str, str]:
        pick = self.random
        parameter = pick.choice([one for one in SUPPORTED[type_name] if one.code != served.READ])
        if parameter.kind == "reference" and depth < 2 and pick.random() < 0.4:
            names = sorted(TYPE_IDS if "*" in parameter.targets else parameter.targets)
            target = pick.choice(names or [""])
            if any(path.type in {"Reference", "Resource"} for path in parameter.paths) and SUPPORTED.get(target):
                name, value = self.pair(target, depth + 1)
                return f"{parameter.code}:{target}.{name}", value
        modifiers = ["", "", *served.modifiers(parameter), "missing"]
        modifier = pick.choice(modifiers) if not parameter.code.startswith("_id") else ""
        many = 1 if modifier == "missing" else pick.choice((1, 1, 2, 3))
        value = ",".join(self.value(parameter, modifier) for _ in range(many))
        return parameter.code + (f":{modifier}" if modifier else ""), value

    def query(self, type_name: str) -> list[tuple[str, str]]:
        pick = self.random
        found = [self.pair(type_name) for _ in range(pick.choice((0, 1, 1, 2, 3)))]
        keys = [one.code for one in SUPPORTED[type_name] if served.sortable(one) and not in_bodies(one)]
        if pick.random() < 0.5:
            chosen = pick.sample(keys, min(len(keys), pick.choice((1, 1, 2))))
            found.append(("_sort", ",".join(pick.choice(("", "-")) + one for one in chosen)))
        return found

    def asked(self) -> tuple[Shape, Values]:
        """The shape of a random statement of a random search, as ehr.search.page makes them."""
        pick, to = self.random, Values()
        type_name = pick.choice(("Observation", "Patient", "Encounter", "MedicationRequest", *TYPE_IDS))
        person = pick.choice((None, None, f"person-{self.text()}"))
        access = AccessPredicate(ALL_GRANTS, person, DIRECTORY_TYPES if person else frozenset())
        searched = plan(parse(type_name, self.query(type_name)), access)
        hasher = Hasher(pick.getrandbits(63))
        broad = frozenset(searched.conditions) if pick.random() < 0.3 else frozenset()
        clauses, narrow = Lowering(hasher, access, broad).plan(to, searched)
        phase = pick.choice(phases_of(searched))
        keys = keys_of(to, searched, phase)
        if phase is not None:
            clauses.append(HasDate(phase == 0))
        match pick.randint(0, 5):
            case 0:
                return CountOf(tuple(clauses), pick.choice((None, to.add(8)))), to
            case 1:
                return EstimateOf(tuple(clauses)), to
            case 2:
                return IdsOf(tuple(clauses), narrow, to.add(2)), to
        place = None
        if pick.random() < 0.5:
            clauses.append(NotAfter(to.add(77)))
            place = tuple(to.add(7) for _ in keys)
        noted = None
        if pick.random() < 0.5:
            caller = (to.add("client"), to.add(self.text()), to.add(4), to.add("TREAT"))
            patients: Literal["all", "none"] | int = pick.choice(("all", "none", to.add([1])))
            noted = Noted(caller, to.add(1), to.add("{}"), to.add(20), to.add([]), pick.random() < 0.5, patients)
        types = typed(to, searched.types)
        return PageOf(tuple(clauses), types, narrow, keys, pick.random() < 0.5, place, to.add(21), noted), to


@pytest.mark.parametrize("seed", range(3))
def test_kept_sql_equals_sql_made_anew(seed: int) -> None:
    asker, shapes = Asker(seed), dict[Shape, Any]()
    for _ in range(SEARCHES // 3):
        asked, values = asker.asked()
        kept, anew = sql_of(asked), sql_of.__wrapped__(asked)
        assert (kept.text, kept.order, kept.constants) == (anew.text, anew.order, anew.constants)
        arguments = kept.arguments(values)
        assert {int(one) for one in re.findall(r"\$(\d+)", kept.text)} == set(range(1, len(arguments) + 1))
        assert MARK not in kept.text
        assert "775533" not in kept.text
        assert shapes.setdefault(asked, kept.text) == kept.text
    assert len(shapes) > 100
    assert len(set(shapes.values())) > 100


def test_searches_that_differ_in_values_only_are_one_statement() -> None:
    """Also of different types and parameters: their numbers are values."""

    def shape(type_name: str, *query: tuple[str, str]) -> Shape:
        to = Values()
        searched = plan(parse(type_name, query), AccessPredicate(ALL_GRANTS))
        clauses, narrow = Lowering(Hasher(1), searched.access).plan(to, searched)
        return IdsOf(tuple(clauses), narrow, to.add(1))

    first = shape("Observation", ("patient", "p1"), ("code", "http://loinc.org|1-8"))
    assert first == shape("Condition", ("patient", "p2"), ("code", "x"))
    assert first != shape("Observation", ("patient", "p1,p2"), ("code", "x"))
    assert first == shape("Observation", ("patient", "p1"))  # an AND of tokens is one array
    assert first != shape("Observation", ("patient", "p1"), ("code:not", "x"))
    dates = [shape("Observation", ("date", f"{prefix}2026")) for prefix in PREFIXES[1:]]
    assert len(set(dates)) == len(dates)
