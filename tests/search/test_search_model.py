"""Random resources and random queries: the answer equals that of a naive walk over all resources."""

import random
from typing import Any

import pytest

from ehr.database.connection import Connection
from ehr.database.engine import Database
from ehr.index.rebuild import rebuild_page
from ehr.search import probe
from tests.search.model import CHECKS, answer, by_code_alone
from tests.search.store import Plain, Records

FAMILIES = ("Nguyễn", "Nguyen", "Trần", "Đặng", "Đàng", "ĐINH", "Lê", "Lee")
GIVEN = ("Văn", "Thị", "An", "Ân", "Ánh", "Bình", "Đức")
SYSTEMS = ("urn:a", "urn:b", None)
CODES = ("1", "2", "3", "10")
DATES = ("2025", "2026", "2026-03", "2026-12", "2026-03-01", "2026-03-31", "2026-03-01T00:30:00+07:00",
         "2026-02-28T17:30:00+00:00", "2025-12-31T23:59:59+07:00")  # fmt: skip
NUMBERS = ("1", "1.0", "1.04", "1.5", "10", "9.95", "10.05", "0", "-1")
UNITS = ("kg", "g", "mg")
UCUM = "http://unitsofmeasure.org"
DISPLAYS = ("Sốt", "sốt cao", "Sot ret", "Đau đầu", "đau")


class Maker:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def coding(self) -> dict[str, Any]:
        system = self.random.choice(SYSTEMS)
        made = ({"system": system} if system else {}) | {"code": self.random.choice(CODES)}
        return made | ({"display": self.random.choice(DISPLAYS)} if self.random.random() < 0.5 else {})

    def quantity(self) -> dict[str, Any]:
        code = self.random.choice(UNITS)
        return {"value": float(self.random.choice(NUMBERS)), "system": UCUM, "code": code, "unit": code}

    def patient(self, number: int) -> dict[str, Any]:
        pick = self.random
        made: dict[str, Any] = {"resourceType": "Patient", "id": f"p{number}"}
        if pick.random() < 0.8:
            given = pick.sample(GIVEN, pick.randint(1, 2))
            made["name"] = [{"family": pick.choice(FAMILIES), "given": given} for _ in range(pick.randint(1, 2))]
        if pick.random() < 0.8:
            made["gender"] = pick.choice(("male", "female", "other"))
        if pick.random() < 0.7:
            coding = self.coding()
            coding.pop("display", None)
            made["identifier"] = [{"value": coding.pop("code"), **coding}]
        return made

    def observation(self, number: int) -> dict[str, Any]:
        pick = self.random
        made: dict[str, Any] = {"resourceType": "Observation", "id": f"o{number}", "status": "final"}
        made["code"] = {"coding": [self.coding() for _ in range(pick.randint(1, 2))]}
        if pick.random() < 0.3:
            made["code"]["text"] = pick.choice(DISPLAYS)
        if pick.random() < 0.8:
            made["subject"] = {"reference": pick.choice(("Patient", "Patient", "Group")) + f"/p{pick.randint(0, 15)}"}
        match pick.randint(0, 4):
            case 0 | 1:
                made["effectiveDateTime"] = pick.choice(DATES)
            case 2:
                made["effectivePeriod"] = {"start": pick.choice(DATES[:2]), "end": "2026-12"}
            case 3:
                made["effectivePeriod"] = pick.choice(({"start": "2026-03-01"}, {"end": "2026-03"}))
        if pick.random() < 0.5:
            made["valueQuantity"] = self.quantity()
        if pick.random() < 0.4:
            made["component"] = [
                {"code": {"coding": [self.coding()]}, "valueQuantity": self.quantity()} for _ in range(2)
            ]
        return made

    def token(self) -> str:
        coding = self.coding()
        return self.random.choice(
            (coding["code"], f"{coding.get('system', '')}|{coding['code']}", f"{self.random.choice(SYSTEMS[:2])}|")
        )

    def value(self, name: str) -> str:
        pick = self.random
        if name.endswith("missing"):
            return pick.choice(("true", "false"))
        if "gender" in name:
            return pick.choice(("male", "female", "female,other"))
        if "name" in name:
            text = pick.choice((*FAMILIES, *GIVEN, "Nguyễn Văn", "le", "d"))
            return text if "exact" in name or pick.random() < 0.5 else text.upper()[: pick.randint(1, 6)]
        if name == "code:text":
            return pick.choice(DISPLAYS)[: pick.randint(1, 6)].strip()
        if name == "patient":
            return f"p{pick.randint(0, 15)}"
        if name == "subject":
            return pick.choice(("Patient", "Group")) + f"/p{pick.randint(0, 15)}"
        if name == "date":
            return pick.choice(("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")) + pick.choice(DATES)
        prefix = pick.choice(("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"))
        unit = pick.choice(("", "||kg", f"|{UCUM}|kg", f"|{UCUM}|g", f"|{UCUM}|mg"))
        measured = prefix + pick.choice(NUMBERS) + unit
        if name == "value-quantity":
            return measured
        if "$" in name or "quantity" in name:
            code = self.coding()
            return pick.choice((code["code"], f"{code.get('system', '')}|{code['code']}")) + "$" + measured
        return self.token() if pick.random() < 0.7 else f"{self.token()},{self.token()}"

    def query(self, type_name: str) -> list[tuple[str, str]]:
        names = [name for of, name in CHECKS if of == type_name]
        return [(name, self.value(name)) for name in self.random.sample(names, self.random.choice((1, 1, 2, 3)))]


@pytest.mark.parametrize(("seed", "narrow_max"), [(1, probe.NARROW_MAX), (2, 0), (3, 5)])
async def test_search_equals_the_naive_answer(
    database: Database, seed: int, narrow_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """narrow_max decides whether chains are looked up or walked: the answer must not depend on it."""
    monkeypatch.setattr(probe, "NARROW_MAX", narrow_max)
    maker = Maker(seed)
    trees = [maker.patient(number) for number in range(16)] + [maker.observation(number) for number in range(120)]
    world = {f"{tree['resourceType']}/{tree['id']}": tree for tree in trees}
    records = Records(database)
    await records.put(*trees)
    answered = 0
    for _ in range(250):
        type_name = maker.random.choice(("Patient", "Observation", "Observation"))
        query = maker.query(type_name)
        expected = answer(world, type_name, query)
        page = await records.page(type_name, [*query, ("_count", "1000"), ("_total", "accurate")])
        found = [one.id for one in page.matches]
        if by_code_alone(query, "_has:Observation:patient:code"):  # in the order of shards, which nobody foretells
            assert sorted(found) == sorted(expected), query
        else:
            assert found == expected, query
        assert page.total == len(expected)
        answered += bool(expected)
    assert answered > 80  # the queries are about what is there


TESTS = {"gender eq": "gender", "name co": "name:contains", "name sw": "name", "identifier eq": "identifier",
         "identifier pr": "identifier:missing"}  # fmt: skip


def filters(maker: Maker, depth: int) -> Any:
    """A random tree of tests."""
    pick = maker.random
    kind = pick.choice(("test", "test", "not", "and", "or")) if depth else "test"
    if kind == "test":
        test = pick.choice(list(TESTS))
        value = maker.value(TESTS[test]).partition(",")[0]
        return ("test", test, value)
    return (kind, *(filters(maker, depth - 1) for _ in range(1 if kind == "not" else 2)))


def written(one: Any) -> str:
    match one:
        case ("test", test, value):
            shown = {"true": "false", "false": "true"}[value] if test.endswith("pr") else f'"{value}"'
            return f"{test} {shown}"
        case ("not", inner):
            return f"not ({written(inner)})"
    return f"({written(one[1])}) {one[0]} ({written(one[2])})"


def holds(one: Any, tree: Any) -> bool:
    match one:
        case ("test", test, value):
            return CHECKS["Patient", TESTS[test]](tree, value, {})
        case ("not", inner):
            return not holds(inner, tree)
        case ("and", first, second):
            return holds(first, tree) and holds(second, tree)
    return holds(one[1], tree) or holds(one[2], tree)


async def test_a_filter_equals_the_naive_answer(database: Database) -> None:
    maker = Maker(5)
    trees = [maker.patient(number) for number in range(30)]
    records = Records(database)
    await records.put(*trees)
    for _ in range(120):
        asked = filters(maker, 3)
        expected = [tree["id"] for tree in trees if holds(asked, tree)]
        page = await records.page("Patient", [("_filter", written(asked)), ("_count", "1000")])
        assert [one.id for one in page.matches] == expected, written(asked)


async def test_a_rebuilt_index_is_the_same_index(database: Database) -> None:
    maker = Maker(4)
    records = Records(database)
    trees = [maker.observation(number) for number in range(40)]
    await records.put(*trees)
    async with database.acquire() as connection, connection.transaction():
        before = await content(connection)
        same = await rebuild_page(connection, records.extractor, Plain(), "Observation", after_rid=0)
        assert (same.read, same.changed) == (40, 0)
        await connection.execute("update resource set tokens = '{7}', shard = 1, date_lo_us = null where id < 'o2'")
        await connection.execute("delete from quantity_index")
        await connection.execute("insert into string_index values (1, 'stale', (select min(rid) from resource), 1)")
        damaged = await connection.fetchval("select count(*) from resource where shard = 1")
        assert await content(connection) != before
        again = await rebuild_page(connection, records.extractor, Plain(), "Observation", after_rid=0)
        assert (again.read, again.changed) == (40, damaged)
        assert await content(connection) == before


async def content(connection: Connection) -> list[list[str]]:
    """Everything the index holds, in an order of its own."""
    statements = (
        "select rid, shard, date_lo_us, date_hi_us, array(select unnest(tokens) order by 1) from resource",
        "select * from string_index",
        "select * from date_index",
        "select * from quantity_index",
    )
    return [sorted(str(tuple(row)) for row in await connection.fetch(statement)) for statement in statements]
