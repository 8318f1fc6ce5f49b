"""How many SQL statements each interaction issues: one more does not go unnoticed.

BEGIN and COMMIT count; the binary COPY of rows into a side index is no statement to the driver and does not.
"""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.api.conftest import City, statements
from tests.api.mothers import MRN, bundle, entry, observation, patient

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]

COUNTS: dict[str, tuple[int, Ask]] = {
    "read": (1, lambda c: c.get("/Patient/p1")),
    "vread": (1, lambda c: c.get("/Patient/p1/_history/1")),
    "not modified": (1, lambda c: c.get("/Patient/p1", headers={"If-None-Match": 'W/"1"'})),
    "not found": (2, lambda c: c.get("/Patient/absent")),
    "search": (4, lambda c: c.get("/Observation?patient=p1")),
    "search with an include": (5, lambda c: c.get("/Observation?patient=p1&_include=Observation:patient")),
    "search of a compartment": (4, lambda c: c.get("/Patient/p1/Observation")),
    "history of one": (4, lambda c: c.get("/Patient/p1/_history")),
    "create": (5, lambda c: c.post("/Observation", json=observation("Patient/p1"))),
    "update": (6, lambda c: c.put("/Observation/o1", json=observation("Patient/p1", 7, id="o1"))),
    "update that changes nothing": (4, lambda c: c.put("/Observation/o1", json=observation("Patient/p1", id="o1"))),
    "delete": (6, lambda c: c.delete("/Observation/o1")),
    "conditional create, found": (
        7,
        lambda c: c.post("/Patient", json=patient((MRN, "1")), headers={"If-None-Exist": f"identifier={MRN}|1"}),
    ),
    "transaction of ten": (
        5,
        lambda c: c.post(
            "/", json=bundle("transaction", *[entry("POST", "Observation", observation("Patient/p1"))] * 10)
        ),
    ),
    "$everything": (5, lambda c: c.get("/Patient/p1/$everything")),
    "$validate": (0, lambda c: c.post("/Patient/$validate", json=patient())),
    "metadata": (0, lambda c: c.get("/metadata")),
}


@pytest.mark.parametrize("name", COUNTS)
async def test_an_interaction_issues_its_statements_and_no_more(
    city: City, client: httpx.AsyncClient, name: str
) -> None:
    await client.put("/Patient/p1", json=patient((MRN, "1"), id="p1"))
    await client.put("/Observation/o1", json=observation("Patient/p1", id="o1"))
    expected, ask = COUNTS[name]
    with statements(city) as seen:
        answer = await ask(client)
    assert answer.status_code in (200, 201, 204, 304, 404), answer.text
    assert len(seen()) == expected, "\n---\n".join(" ".join(one.split())[:160] for one in seen())
