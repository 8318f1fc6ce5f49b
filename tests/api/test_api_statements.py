"""How many SQL statements each interaction issues: one more does not go unnoticed.

BEGIN and COMMIT count.
"""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.api.conftest import City, statements
from tests.api.mothers import MRN, bundle, entry, observation, patient

GRAMS = "gt1|http://unitsofmeasure.org|g"
Ask = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]

TAG = {"tag": [{"code": "x"}]}
TAGGED = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": TAG}]}

COUNTS: dict[str, tuple[int, Ask]] = {
    "read": (1, lambda c, n: c.get(f"/Patient/p{n}")),
    "vread": (1, lambda c, n: c.get(f"/Patient/p{n}/_history/1")),
    "not modified": (1, lambda c, n: c.get(f"/Patient/p{n}", headers={"If-None-Match": 'W/"1"'})),
    "not found": (2, lambda c, n: c.get(f"/Patient/absent{n}")),
    "search": (1, lambda c, n: c.get(f"/Observation?patient=p{n}")),
    "search in the order of dates": (2, lambda c, n: c.get(f"/Observation?patient=p{n}&_sort=-date")),
    "search in another unit": (2, lambda c, n: c.get(f"/Observation?patient=p{n}&value-quantity={GRAMS}")),
    "search by a text": (2, lambda c, n: c.get(f"/Observation?patient=p{n}&code:text=x")),
    "search in the order of codes": (4, lambda c, n: c.get(f"/Observation?patient=p{n}&_sort=code")),
    "search with an include": (3, lambda c, n: c.get(f"/Observation?patient=p{n}&_include=Observation:patient")),
    "search of a compartment": (1, lambda c, n: c.get(f"/Patient/p{n}/Observation")),
    "history of one": (2, lambda c, n: c.get(f"/Patient/p{n}/_history")),
    "create": (3, lambda c, n: c.post("/Observation", json=observation(f"Patient/p{n}"))),
    "update": (4, lambda c, n: c.put(f"/Observation/o{n}", json=observation(f"Patient/p{n}", 7, id=f"o{n}"))),
    "update that changes nothing": (
        4,
        lambda c, n: c.put(f"/Observation/o{n}", json=observation(f"Patient/p{n}", id=f"o{n}")),
    ),
    "patch": (4, lambda c, n: _patch(c, f"/Observation/o{n}")),
    "conditional patch": (6, lambda c, n: _patch(c, f"/Patient?identifier={MRN}|{n}")),
    "delete": (5, lambda c, n: c.delete(f"/Observation/o{n}")),
    "conditional create, found": (
        6,
        lambda c, n: c.post(
            "/Patient", json=patient((MRN, str(n))), headers={"If-None-Exist": f"identifier={MRN}|{n}"}
        ),
    ),
    "transaction of ten": (
        3,
        lambda c, n: c.post(
            "/", json=bundle("transaction", *[entry("POST", "Observation", observation(f"Patient/p{n}"))] * 10)
        ),
    ),
    "$everything": (5, lambda c, n: c.get(f"/Patient/p{n}/$everything")),
    "$everything of an encounter": (5, lambda c, n: c.get("/Encounter/e/$everything")),
    "$meta": (1, lambda c, n: c.get(f"/Patient/p{n}/$meta")),
    "$meta-add": (4, lambda c, n: c.post(f"/Patient/p{n}/$meta-add", json=TAGGED)),
    "$lastn": (1, lambda c, n: c.get(f"/Observation/$lastn?patient=p{n}&code=2345-7")),
    "$docref": (3, lambda c, n: c.get(f"/DocumentReference/$docref?patient=p{n}")),
    "$document": (3, lambda c, n: c.get("/Composition/c/$document")),
    "$validate": (0, lambda c, _: c.post("/Patient/$validate", json=patient())),
    "metadata": (1, lambda c, _: c.get("/metadata")),
    "metadata of terminology": (1, lambda c, _: c.get("/metadata?mode=terminology")),
}


def _patch(client: httpx.AsyncClient, url: str) -> Awaitable[httpx.Response]:
    content = b'[{"op":"add","path":"/language","value":"vi"}]'
    return client.patch(url, content=content, headers={"Content-Type": "application/json-patch+json"})


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", COUNTS)
async def test_an_interaction_issues_its_statements_and_no_more(shared_city: City, name: str) -> None:
    client, number = shared_city.system(), list(COUNTS).index(name)
    await client.put(f"/Patient/p{number}", json=patient((MRN, str(number)), id=f"p{number}"))
    await client.put(f"/Observation/o{number}", json=observation(f"Patient/p{number}", id=f"o{number}"))
    of = {"subject": {"reference": f"Patient/p{number}"}}
    visit = {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"}, **of}
    tagged = {**patient((MRN, "tagged"), id="tagged"), "meta": TAG}
    await client.put("/Patient/tagged", json=tagged)  # who is first with a set of members pays a statement for it
    await client.put("/Encounter/e", json=visit)
    letter = {"resourceType": "Composition", "id": "c", "status": "final", "type": {"text": "x"}, "title": "x", **of}
    await client.put("/Composition/c", json={**letter, "date": "2026", "author": [{"display": "x"}]})
    expected, ask = COUNTS[name]
    await client.get("/Patient/tagged")  # there is a connection that plans once, as there is one that does not
    with statements(shared_city) as seen:
        answer = await ask(client, number)
    assert answer.status_code in (200, 201, 204, 304, 404), answer.text
    assert len(seen()) == expected, "\n---\n".join(" ".join(one.split())[:160] for one in seen())


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("sort", "expected"), [("_id", 1), ("-date", 2), ("-_lastUpdated", 2)])
async def test_a_later_page_looks_for_what_moved_where_rows_may_move(
    shared_city: City, sort: str, expected: int
) -> None:
    client = shared_city.system()
    for number in range(3):
        await client.put(f"/Observation/page{number}", json=observation("Patient/pages", id=f"page{number}"))
    first = (await client.get(f"/Observation?patient=pages&_count=1&_sort={sort}")).json()
    following = next(link["url"] for link in first["link"] if link["relation"] == "next")
    with statements(shared_city) as seen:
        assert len((await client.get(following)).json()["entry"]) == 1
    assert len(seen()) == expected
