"""What the entries of a transaction and of a batch may ask, and what their references mean."""

import base64
from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from tests.api.mothers import MRN, bundle, entry, observation, patient

URN = "urn:uuid:6f1b6c1e-7d0f-4a53-9b0e-0123456789ab"
OID = "urn:oid:2.16.840.1.113883.4.1"
ELSEWHERE = "https://elsewhere.example/fhir"
Tree = dict[str, Any]


async def send(client: httpx.AsyncClient, kind: str, *entries: Tree, **headers: str) -> list[Tree]:
    answer = await client.post("/", json=bundle(kind, *entries), headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[Tree] = answer.json()["entry"]
    return found


async def refused(client: httpx.AsyncClient, *entries: Tree) -> tuple[int, str]:
    answer = await client.post("/", json=bundle("transaction", *entries))
    assert answer.status_code >= 400, answer.text
    return answer.status_code, answer.json()["issue"][0]["expression"][0]


def id_of(answer: Tree) -> str:
    return str(answer["response"]["location"].rsplit("/", 3)[1])


def statuses(answers: list[Tree]) -> list[str]:
    return [one["response"]["status"][:3] for one in answers]


def patching(*operations: Tree, media: str = "application/json-patch+json") -> Tree:
    data = base64.b64encode(orjson.dumps(operations)).decode()
    return {"resourceType": "Binary", "contentType": media, "data": data}


def op(name: str, path: str, value: Any) -> Tree:
    return {"op": name, "path": path, "value": value}


class TestPatches:
    async def test_a_patch_is_part_of_a_transaction(self, client: httpx.AsyncClient) -> None:
        await client.put("/Observation/o1", json=observation("Patient/p1", id="o1"))
        await client.post("/Patient", json=patient((MRN, "1")))
        answers = await send(
            client,
            "transaction",
            entry(
                "PATCH",
                "Observation/o1",
                patching(op("replace", "/subject/reference", URN), op("add", "/performer", [{"reference": URN}])),
                request={"ifMatch": 'W/"1"'},
            ),
            entry("POST", "Patient", patient((MRN, "2")), fullUrl=URN),
            entry("PATCH", f"Patient?identifier={MRN}|1", patching(op("replace", "/gender", "male"))),
        )
        assert statuses(answers) == ["200", "201", "200"]
        assert [one["response"]["etag"] for one in answers] == ['W/"2"', 'W/"1"', 'W/"2"']
        stored = (await client.get("/Observation/o1")).json()
        made = f"Patient/{id_of(answers[1])}"
        assert (stored["subject"], stored["performer"]) == ({"reference": made}, [{"reference": made}])

    @pytest.mark.parametrize(
        ("patch", "url", "status", "at"),
        [
            (patching(op("test", "/gender", "male")), "Patient/p1", 422, "Bundle.entry[0]"),
            (patching(op("replace", "/gender", "x")), "Patient/p1", 422, "Bundle.entry[0]"),
            (patching(op("erase", "/gender", "x")), "Patient/p1", 400, "Bundle.entry[0].resource"),
            (patching(media="application/xml-patch+xml"), "Patient/p1", 400, "Bundle.entry[0].resource"),
            ({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "%"}, "Patient/p1", 400,
             "Bundle.entry[0].resource"),
            (patient(), "Patient/p1", 400, "Bundle.entry[0].resource"),
            (patching(op("add", "/subject", {"reference": URN})), "Observation/o1", 422, "Bundle.entry[0].resource"),
            (patching(), "Patient/never", 404, "Bundle.entry[0]"),
            (patching(), f"Patient?identifier={MRN}|none", 404, "Bundle.entry[0].request"),
            (patching(), "Patient", 400, "Bundle.entry[0].request.url"),
            (patching(), "Binary/b1", 400, "Bundle.entry[0].request.url"),
        ],
    )  # fmt: skip
    async def test_a_patch_that_cannot_stand_refuses_the_transaction(
        self, client: httpx.AsyncClient, patch: Tree, url: str, status: int, at: str
    ) -> None:
        await client.put("/Patient/p1", json=patient(id="p1"))
        assert await refused(client, entry("PATCH", url, patch), entry("POST", "Patient", patient())) == (status, at)
        assert (await client.get("/Patient", params={"_summary": "count"})).json()["total"] == 1

    async def test_a_fhirpath_patch_is_an_entrys_parameters(self, client: httpx.AsyncClient) -> None:
        await client.put("/Observation/o1", json=observation("Patient/p1", id="o1"))
        parts = [
            {"name": "type", "valueCode": "replace"},
            {"name": "path", "valueString": "Observation.subject"},
            {"name": "value", "valueReference": {"reference": URN}},
        ]
        patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
        answers = await send(
            client,
            "transaction",
            entry("PATCH", "Observation/o1", patch),
            entry("POST", "Patient", patient(), fullUrl=URN),
        )
        stored = (await client.get("/Observation/o1")).json()
        assert stored["subject"] == {"reference": f"Patient/{id_of(answers[1])}"}

    async def test_a_patch_in_a_batch_fails_alone(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/p1", json=patient(id="p1"))
        answers = await send(
            client,
            "batch",
            entry("PATCH", "Patient/p1", patching(op("test", "/gender", "male"))),
            entry("PATCH", "Patient/p1", patching(op("replace", "/gender", "male"))),
        )
        assert statuses(answers) == ["422", "200"]
        assert answers[0]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[0]"]


class TestConditions:
    async def test_reads_are_conditional(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/p1", json=patient(id="p1"))
        updated = (await client.get("/Patient/p1")).json()["meta"]["lastUpdated"]
        asked = [
            entry("GET", "Patient/p1", request={"ifNoneMatch": 'W/"1"'}),
            entry("GET", "Patient/p1", request={"ifNoneMatch": 'W/"7"'}),
            entry("GET", "Patient/p1", request={"ifModifiedSince": updated}),
            entry("GET", "Patient/p1", request={"ifModifiedSince": "2020-01-01T00:00:00Z"}),
            entry("HEAD", "Patient/p1"),
        ]
        for kind in ("transaction", "batch"):
            answers = await send(client, kind, *asked)
            assert statuses(answers) == ["304", "200", "304", "200", "200"], kind
            assert ["resource" in one for one in answers] == [False, True, False, True, False]
            assert {one["response"]["etag"] for one in answers} == {'W/"1"'}
            assert {one["response"]["lastModified"] for one in answers} == {updated}, "to the millisecond"

    @pytest.mark.parametrize("kind", ["transaction", "batch"])
    async def test_a_change_within_the_second_is_a_change(self, client: httpx.AsyncClient, kind: str) -> None:
        meta = (await client.put("/Patient/p1", json=patient(id="p1"))).json()["meta"]
        known = [datetime.fromisoformat(meta["lastUpdated"]) + timedelta(milliseconds=ms) for ms in (-1, 0)]
        asked = [entry("GET", "Patient/p1", request={"ifModifiedSince": since.isoformat()}) for since in known]
        assert statuses(await send(client, kind, *asked)) == ["200", "304"]

    @pytest.mark.parametrize("prefer", ["minimal", "representation", "OperationOutcome"])
    async def test_a_conditional_create_tells_what_it_found(self, client: httpx.AsyncClient, prefer: str) -> None:
        """Creates come before updates: it found the version before the one that another entry makes."""
        await client.put("/Patient/p1", json=patient((MRN, "1"), id="p1"))
        again = entry("POST", "Patient", patient(), request={"ifNoneExist": f"identifier={MRN}|1"})
        changed = entry("PUT", "Patient/p1", patient((MRN, "1"), id="p1", active=True))
        answers = await send(client, "transaction", changed, again, Prefer=f"return={prefer}")
        assert [one["response"]["etag"] for one in answers] == ['W/"2"', 'W/"1"']
        assert "active" not in answers[1].get("resource", {})

    async def test_a_conditional_create_does_not_answer_with_what_is_deleted(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/p1", json=patient((MRN, "1"), id="p1"))
        again = entry("POST", "Patient", patient(), fullUrl=URN, request={"ifNoneExist": f"identifier={MRN}|1"})
        result = entry("POST", "Observation", observation(URN))
        for deletion in ("Patient/p1", "Patient?birthdate=1970-05-01"):
            refusal = await refused(client, entry("DELETE", deletion), result, again)
            assert refusal == (422, "Bundle.entry[2]")
        assert (await client.get("/Patient/p1")).status_code == 200

    async def test_an_update_may_insist_that_nothing_is_there(self, client: httpx.AsyncClient) -> None:
        only_new = entry("PUT", "Patient/p1", patient(id="p1"), request={"ifNoneMatch": "*"})
        assert statuses(await send(client, "transaction", only_new)) == ["201"]
        assert await refused(client, only_new) == (412, "Bundle.entry[0].request.ifNoneMatch")

    async def test_a_condition_never_takes_another_resources_id(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/p1", json=patient((MRN, "1"), id="p1"))
        asked = entry("PUT", f"Patient?identifier={MRN}|2", patient((MRN, "2"), id="p1"))
        assert await refused(client, asked) == (409, "Bundle.entry[0].resource.id")

    @pytest.mark.parametrize(
        ("asked", "at"),
        [
            (entry("POST", "Patient", patient(), request={"ifNoneMatch": "*"}), "ifNoneMatch"),
            (entry("PUT", "Patient/p1", patient(id="p1"), request={"ifNoneMatch": 'W/"1"'}), "ifNoneMatch"),
            (entry("GET", "Patient/p1", request={"ifModifiedSince": "yesterday"}), "ifModifiedSince"),
            (entry("GET", "Patient/p1", request={"ifModifiedSince": "2026-11-30T10:00:00"}), "ifModifiedSince"),
        ],
    )
    async def test_conditions_that_mean_nothing_are_refused(
        self, client: httpx.AsyncClient, asked: Tree, at: str
    ) -> None:
        assert await refused(client, asked) == (400, f"Bundle.entry[0].request.{at}")


class TestReads:
    async def test_whatever_is_read_alone_is_read_in_a_bundle(self, client: httpx.AsyncClient) -> None:
        for turn in ("1", "2"):
            await client.put("/Patient/p1", json=patient((MRN, turn), id="p1"))
        asked = [
            entry("GET", "Patient/p1/_history"),
            entry("GET", "Patient/_history?_count=1"),
            entry("GET", "Patient/p1/_history/1"),
            entry("GET", "Patient/p1/Observation"),
            entry("GET", "?_type=Patient"),
            entry("HEAD", f"Patient?identifier={MRN}|2"),
        ]
        for kind in ("transaction", "batch"):
            new = observation("Patient/p1")
            answers = await send(client, kind, *asked, entry("POST", "Observation", new))
            assert statuses(answers) == ["200"] * 6 + ["201"], kind
            assert [len(answers[n]["resource"].get("entry", [])) for n in (0, 1)] == [2, 1]
            assert answers[2]["resource"]["identifier"][0]["value"] == "1"
            seen = [one["resource"]["subject"] for one in answers[3]["resource"]["entry"]]
            assert seen, "reads come after the writes and see them"
            assert "resource" not in answers[5]

    async def test_operations_are_served_in_a_batch(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/p1", json=patient(id="p1"))
        answers = await send(
            client,
            "batch",
            entry("POST", "Patient/$validate", patient(gender="f")),
            entry("GET", "Patient/p1/$everything"),
            entry("POST", "Patient/$nonsense", patient()),
            entry("GET", "Patient?nonsense=1"),
            entry("GET", "Patient/never"),
        )
        assert statuses(answers) == ["200", "200", "404", "400", "404"]
        assert answers[0]["resource"]["issue"][0]["expression"] == ["Patient.gender"]
        assert answers[3]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[3]"]

    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_operations_are_no_part_of_a_transaction(self, client: httpx.AsyncClient, method: str) -> None:
        await client.put("/Patient/p1", json=patient(id="p1"))
        assert (await refused(client, entry(method, "Patient/p1/$everything")))[0] == 400


async def test_prefer_says_what_comes_back_with_each_entry(client: httpx.AsyncClient) -> None:
    asked = entry("POST", "Patient", patient((MRN, "1")), request={"ifNoneExist": f"identifier={MRN}|1"})
    for said in ("created", "stored"):
        (answer,) = await send(client, "transaction", asked, Prefer="return=OperationOutcome")
        assert answer["response"]["outcome"]["issue"][0]["diagnostics"] == said
        assert "resource" not in answer
        assert {"location", "etag", "lastModified"} <= answer["response"].keys()
    (deleted,) = await send(client, "transaction", entry("DELETE", f"Patient?identifier={MRN}|1"))
    assert (deleted["response"]["status"], deleted["response"]["etag"]) == ("204 No Content", 'W/"2"')


class TestReferences:
    async def test_every_link_to_an_entry_is_rewritten(self, client: httpx.AsyncClient) -> None:
        div = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{URN}">x</a><img src="{OID}" alt="y"/></div>'
        extension = [
            {"url": "http://x/1", "valueUri": URN},
            {"url": "http://x/2", "valueUrl": URN},
            {"url": "http://x/3", "valueReference": {"reference": OID}},
            {"url": "http://x/4", "valueCanonical": URN},
            {"url": "http://x/5", "valueString": URN},
        ]
        text = {"status": "generated", "div": div}
        answers = await send(
            client,
            "transaction",
            entry("POST", "Observation", observation(URN, text=text, extension=extension)),
            entry("POST", "Patient", patient(), fullUrl=URN),
            entry("POST", "Organization", {"resourceType": "Organization", "name": "x"}, fullUrl=OID),
        )
        made, place = f"Patient/{id_of(answers[1])}", f"Organization/{id_of(answers[2])}"
        stored = (await client.get(f"/Observation/{id_of(answers[0])}")).json()
        assert stored["subject"]["reference"] == made
        assert stored["text"]["div"] == div.replace(URN, made).replace(OID, place)
        values = [next(value for name, value in one.items() if name != "url") for one in stored["extension"]]
        assert values == [made, made, {"reference": place}, URN, URN]

    async def test_relative_references_follow_their_entrys_base(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/7", json=patient(id="7"))
        answers = await send(
            client,
            "transaction",
            entry("POST", "Patient", patient(id="7"), fullUrl=f"{ELSEWHERE}/Patient/7"),
            entry("POST", "Observation", observation("Patient/7"), fullUrl=f"{ELSEWHERE}/Observation/1"),
            entry("POST", "Observation", observation(f"{ELSEWHERE}/Patient/7"), fullUrl="https://b.example/Observation/1"),
            entry("POST", "Observation", observation("Patient/7"), fullUrl="https://b.example/Observation/2"),
            entry("POST", "Observation", observation("Patient/7")),
        )  # fmt: skip
        meant = [(await client.get(f"/Observation/{id_of(one)}")).json()["subject"]["reference"] for one in answers[1:]]
        made = f"Patient/{id_of(answers[0])}"
        assert meant == [made, made, "Patient/7", "Patient/7"]

    async def test_versioned_references_name_the_version_that_will_stand(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/p1", json=patient(id="p1"))
        await client.put("/Patient/p2", json=patient(id="p2"))
        base = "https://elsewhere.example/fhir"

        def seen(reference: str, number: int) -> Tree:
            return entry("POST", "Observation", observation(reference), fullUrl=f"{base}/Observation/{number}")

        answers = await send(
            client,
            "transaction",
            entry("POST", "Patient", patient(), fullUrl=URN),
            entry("PUT", "Patient/p1", patient(id="p1", family="Mới"), fullUrl=f"{base}/Patient/p1"),
            entry("PUT", "Patient/p2", patient(id="p2"), fullUrl=f"{base}/Patient/p2"),
            seen(f"{URN}/_history/9", 1),
            seen("Patient/p1/_history/9", 2),
            seen(f"{base}/Patient/p2/_history/9", 3),
            seen("Patient/p3/_history/9", 4),
        )
        meant = [(await client.get(f"/Observation/{id_of(one)}")).json()["subject"]["reference"] for one in answers[3:]]
        assert meant == [
            f"Patient/{id_of(answers[0])}/_history/1",
            "Patient/p1/_history/2",
            "Patient/p2/_history/1",
            "Patient/p3/_history/9",
        ]
        lost = "urn:uuid:00000000-0000-4000-8000-000000000000/_history/1"
        at = "Bundle.entry[0].resource.subject.reference"
        assert await refused(client, entry("POST", "Observation", observation(lost))) == (422, at)

    async def test_a_conditional_reference_means_what_matches_in_the_end(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/old", json=patient((MRN, "1"), id="old"))
        named = f"Patient?identifier={MRN}|1"
        answers = await send(
            client,
            "transaction",
            entry("POST", "Observation", observation(named)),
            entry("DELETE", "Patient/old"),
            entry("POST", "Patient", patient((MRN, "1"))),
        )
        stored = (await client.get(f"/Observation/{id_of(answers[0])}")).json()
        assert stored["subject"]["reference"] == f"Patient/{id_of(answers[2])}"
        doubled = [entry("POST", "Observation", observation(named)), entry("POST", "Patient", patient((MRN, "1")))]
        assert await refused(client, *doubled) == (412, "Bundle.entry[0].resource.subject.reference")
        moved = entry("PUT", f"Patient/{id_of(answers[2])}", patient((MRN, "2"), id=id_of(answers[2])))
        assert (await refused(client, entry("POST", "Observation", observation(named)), moved))[0] == 412


class TestIdentities:
    """Neither of two entries that mean one identity may vanish silently, and it may not stand twice."""

    ONE, OTHER = (MRN, "1"), ("http://x/card", "A")

    @pytest.mark.parametrize("order", [1, -1])
    async def test_two_conditional_updates_of_one_identity_are_refused(
        self, client: httpx.AsyncClient, order: int
    ) -> None:
        asked = [
            entry("PUT", f"Patient?identifier={MRN}|1", patient(self.ONE, self.OTHER)),
            entry("PUT", "Patient?identifier=http://x/card|A", patient(self.ONE, self.OTHER)),
        ][::order]
        status, at = await refused(client, *asked)
        assert (status, at.startswith("Bundle.entry[")) == (422, True)
        await client.post("/Patient", json=patient(self.ONE, self.OTHER))
        assert await refused(client, *asked) == (422, "Bundle.entry[1]")
        assert (await client.get("/Patient", params={"_summary": "count"})).json()["total"] == 1

    async def test_a_create_of_what_another_entry_asks_for_is_refused(self, client: httpx.AsyncClient) -> None:
        asked = [
            entry("POST", "Patient", patient(self.ONE)),
            entry("POST", "Patient", patient(self.ONE), request={"ifNoneExist": f"identifier={MRN}|1"}),
        ]
        assert await refused(client, *asked) == (422, "Bundle.entry[1]")

    async def test_what_is_deleted_first_may_be_created_again(self, client: httpx.AsyncClient) -> None:
        old = (await client.post("/Patient", json=patient(self.ONE))).json()["id"]
        answers = await send(
            client,
            "transaction",
            entry("POST", "Patient", patient(self.ONE)),
            entry("DELETE", f"Patient?identifier={MRN}|1"),
        )
        assert statuses(answers) == ["201", "204"]
        assert (await client.get(f"/Patient/{old}")).status_code == 410
        found = await client.get("/Patient", params={"identifier": f"{MRN}|1"})
        assert [one["resource"]["id"] for one in found.json()["entry"]] == [id_of(answers[0])]


async def test_entries_of_a_batch_stand_alone(client: httpx.AsyncClient) -> None:
    answers = await send(
        client,
        "batch",
        entry("GET", "Patient/p1"),
        entry("PUT", "Patient/p1", patient(id="p1")),
        entry("POST", "Observation", observation("Patient/p1") | {"status": "nonsense"}),
        entry("POST", "Patient", patient(), fullUrl=f"{ELSEWHERE}/Patient/7"),
        entry("POST", "Observation", observation(f"{ELSEWHERE}/Patient/7")),
        entry("DELETE", "Patient/unknown"),
        {"request": {"method": "GET"}},
        {},
    )
    assert statuses(answers) == ["200", "201", "400", "201", "422", "204", "400", "400"]
    issues = [one["response"]["outcome"]["issue"][0] for one in answers if "outcome" in one["response"]]
    assert [issue["expression"][0] for issue in issues] == [
        "Bundle.entry[2].resource.status",
        "Bundle.entry[4].resource",
        "Bundle.entry[6].request.url",
        "Bundle.entry[7].request",
    ]
