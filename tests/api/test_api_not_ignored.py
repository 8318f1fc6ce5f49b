"""What a client asks for is done or refused: nothing is passed over in silence, because it would count on it."""

import httpx
import pytest

from tests.api.mothers import MRN, bundle, entry, observation, patient

NAMED = f"Patient?identifier={MRN}|1"


def expressions(answer: httpx.Response) -> list[str]:
    return [at for issue in answer.json()["issue"] for at in issue.get("expression", ())]


async def total(client: httpx.AsyncClient, type_name: str = "Patient") -> int:
    return int((await client.get(f"/{type_name}?_summary=count")).json()["total"])


class TestBundles:
    async def test_misspelt_entries_are_not_no_entries(self, client: httpx.AsyncClient) -> None:
        for kind in ("transaction", "batch"):
            sent = {"resourceType": "Bundle", "type": kind, "entries": [entry("POST", "Patient", patient())]}
            answer = await client.post("/", json=sent)
            assert (answer.status_code, expressions(answer)) == (400, ["Bundle.entries"])

    async def test_a_misspelt_condition_is_not_no_condition(self, client: httpx.AsyncClient) -> None:
        good = entry("POST", "Patient", patient())
        for wrong, at in (
            (entry("POST", "Patient", patient(), request={"ifNoneExists": "identifier=1"}), "request.ifNoneExists"),
            (entry("PUT", "Patient/p1", patient(id="p1"), request={"ifmatch": 'W/"7"'}), "request.ifmatch"),
            (entry("POST", "Patient", patient(), fullURL="urn:uuid:6f1b6c1e-7d0f-4a53-9b0e-0123456789ab"), "fullURL"),
            (entry("GET", "Patient?_count=1", request={"ifnonematch": "*"}), "request.ifnonematch"),
        ):
            before = await total(client)
            whole = await client.post("/", json=bundle("transaction", good, wrong))
            assert (whole.status_code, expressions(whole)) == (400, [f"Bundle.entry[1].{at}"])
            apart = (await client.post("/", json=bundle("batch", good, wrong))).json()["entry"]
            assert [one["response"]["status"][:3] for one in apart] == ["201", "400"]
            assert apart[1]["response"]["outcome"]["issue"][0]["expression"] == [f"Bundle.entry[1].{at}"]
            assert await total(client) == before + 1

    async def test_extensions_of_an_entry_are_no_mistake(self, client: httpx.AsyncClient) -> None:
        said = [{"url": "https://example.org/why", "valueString": "x"}]
        sent = bundle("transaction", entry("POST", "Patient", patient(), extension=said, request={"extension": said}))
        answer = await client.post("/", json={**sent, "id": "b1", "_type": {"extension": said}})
        assert answer.status_code == 200, answer.text

    async def test_a_refused_parameter_names_its_entry(self, client: httpx.AsyncClient) -> None:
        sent = bundle("batch", entry("GET", "Patient?_count=1"), entry("GET", "Patient?favourite=1"))
        answers = (await client.post("/", json=sent)).json()["entry"]
        (issue,) = answers[1]["response"]["outcome"]["issue"]
        assert issue["expression"] == ["Bundle.entry[1]"]
        assert issue["diagnostics"].startswith("favourite: ")
        for asked, at in (
            (entry("GET", "Patient?favourite=1"), "Bundle.entry[1]"),
            (entry("DELETE", "Patient?favourite=1"), "Bundle.entry[1].request"),
            (
                entry("POST", "Observation", observation("Patient?favourite=1")),
                "Bundle.entry[1].resource.subject.reference",
            ),
        ):
            sent = bundle("transaction", entry("GET", "Patient?_count=1"), asked)
            refused = await client.post("/", json=sent)
            assert (refused.status_code, expressions(refused)) == (400, [at])


class TestConditions:
    async def test_a_conditional_update_that_only_creates_overwrites_nothing(self, client: httpx.AsyncClient) -> None:
        url, only_new = f"/{NAMED}", {"If-None-Match": "*"}
        first = await client.put(url, json=patient((MRN, "1"), family="Một"), headers=only_new)
        second = await client.put(url, json=patient((MRN, "1"), family="Hai"), headers=only_new)
        assert (first.status_code, second.status_code) == (201, 412)
        assert (await client.get(first.headers["location"])).json()["name"][0]["family"] == "Một"

    async def test_a_date_instead_of_a_version_is_refused(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/p1", json=patient(id="p1"))
        before = {"If-Unmodified-Since": "Mon, 30 Nov 2020 10:00:00 GMT"}
        changed = patient(id="p1", family="Khác")
        for answer in (
            await client.put("/Patient/p1", json=changed, headers=before),
            await client.delete("/Patient/p1", headers=before),
            await client.put(f"/{NAMED}", json=patient(), headers=before),
        ):
            assert (answer.status_code, expressions(answer)) == (400, ["If-Unmodified-Since"])
        told = await client.put("/Patient/p1", json=changed, headers={**before, "If-Match": 'W/"1"'})
        assert told.status_code == 200, "If-Match decides where both are given (RFC 9110 13.1.4)"

    async def test_a_read_in_a_bundle_may_insist_on_a_version(self, client: httpx.AsyncClient) -> None:
        await client.put("/Patient/p1", json=patient(id="p1"))
        known, other = [entry("GET", "Patient/p1", request={"ifMatch": f'W/"{n}"'}) for n in (1, 2)]
        many = entry("GET", "Patient?_id=p1", request={"ifMatch": 'W/"1"'})
        answer = await client.post("/", json=bundle("batch", known, other, many))
        assert [one["response"]["status"][:3] for one in answer.json()["entry"]] == ["200", "412", "400"]
        for asked, status, at in ((known, 200, None), (other, 412, "request.ifMatch"), (many, 400, "request")):
            answer = await client.post("/", json=bundle("transaction", asked))
            assert answer.status_code == status
            assert at is None or expressions(answer) == [f"Bundle.entry[0].{at}"]

    @pytest.mark.parametrize(
        ("method", "condition"),
        [
            *(("POST", one) for one in ("If-Match", "If-None-Match")),
            *(("PUT", one) for one in ("If-None-Exist",)),
            *((method, one) for method in ("PATCH", "DELETE") for one in ("If-None-Match", "If-None-Exist")),
        ],
    )
    async def test_a_condition_of_another_interaction_is_refused(
        self, client: httpx.AsyncClient, method: str, condition: str
    ) -> None:
        """As it is in a Bundle's entry."""
        await client.put("/Patient/p1", json=patient((MRN, "1"), id="p1"))
        headers = {condition: f"identifier={MRN}|1" if condition == "If-None-Exist" else "*"}
        for url in ["/Patient"] if method == "POST" else ["/Patient/p1", f"/{NAMED}"]:
            body = (
                None if method == "DELETE" else [] if method == "PATCH" else patient((MRN, "1"), id="p1", active=True)
            )
            media = {"Content-Type": "application/json-patch+json"} if method == "PATCH" else {}
            answer = await client.request(method, url, json=body, headers=headers | media)
            assert (answer.status_code, expressions(answer)) == (400, [condition]), answer.text
        assert (await client.get("/Patient/p1")).headers["etag"] == 'W/"1"'

    async def test_if_match_names_any_or_several_versions(self, client: httpx.AsyncClient) -> None:
        nothing = await client.put("/Patient/p1", json=patient(id="p1"), headers={"If-Match": "*"})
        assert (nothing.status_code, expressions(nothing)) == (412, ["If-Match"])
        await client.put("/Patient/p1", json=patient(id="p1"))
        for match, family, status in (
            ("*", "Một", 200),
            ('W/"1", "2"', "Hai", 200),
            ('W/"1", W/"2"', "Ba", 412),
            ('W/"3",', "Ba", 400),
            ("3", "Ba", 400),
        ):
            answer = await client.put("/Patient/p1", json=patient(id="p1", family=family), headers={"If-Match": match})
            assert answer.status_code == status, (match, answer.text)
        inside = entry("PUT", "Patient/p1", patient(id="p1", family="Tư"), request={"ifMatch": "*"})
        assert (await client.post("/", json=bundle("transaction", inside))).status_code == 200
        stale = entry("DELETE", "Patient/p1", request={"ifMatch": 'W/"1", W/"2"'})
        refused = await client.post("/", json=bundle("transaction", stale))
        assert (refused.status_code, expressions(refused)) == (412, ["Bundle.entry[0].request.ifMatch"])
        assert "version 4" in refused.json()["issue"][0]["diagnostics"]

    async def test_criteria_may_be_written_as_a_search_is(self, client: httpx.AsyncClient) -> None:
        statuses = []
        for before in ("?", "", "Patient?"):
            criteria = {"If-None-Exist": f"{before}identifier={MRN}|1"}
            statuses.append((await client.post("/Patient", json=patient((MRN, "1")), headers=criteria)).status_code)
        again = entry("POST", "Patient", patient(), request={"ifNoneExist": f"?identifier={MRN}|1"})
        (answer,) = (await client.post("/", json=bundle("transaction", again))).json()["entry"]
        assert (statuses, answer["response"]["status"]) == ([201, 200, 200], "200 OK")

    async def test_a_create_whose_address_has_criteria_makes_no_second_one(self, client: httpx.AsyncClient) -> None:
        for handling in ("strict", "lenient"):
            for criteria in (f"identifier={MRN}|1", "name:exact=A", "organization.name=A", "_id=1"):
                prefer = {"Prefer": f"handling={handling}"}
                answer = await client.post(f"/Patient?{criteria}", json=patient((MRN, "1")), headers=prefer)
                assert (answer.status_code, expressions(answer)) == (400, [criteria.partition("=")[0]])
                assert "If-None-Exist" in answer.json()["issue"][0]["diagnostics"]
        lenient = {"Prefer": "handling=lenient"}
        assert (await client.post("/Patient?_filename=a", json=patient(), headers=lenient)).status_code == 201
        assert await total(client) == 1

    async def test_a_condition_finds_what_a_search_finds(self, client: httpx.AsyncClient) -> None:
        for id in ("p1", "p2"):
            await client.put(f"/Patient/{id}", json=patient(id=id))
        there, gone = ({"item": {"reference": f"Patient/{id}"}} for id in ("p1", "p2"))
        entries = [there, {**gone, "deleted": True}]
        listed = {"resourceType": "List", "id": "l1", "status": "current", "mode": "changes", "entry": entries}
        assert (await client.put("/List/l1", json=listed)).status_code == 201
        assert (await client.delete("/Patient?_list=l1")).status_code == 204
        assert [(await client.get(f"/Patient/{id}")).status_code for id in ("p1", "p2")] == [410, 200]


class TestConditionalReferences:
    """They are looked up in transactions and batches (http.html#trules): elsewhere they would lead nowhere for ever."""

    async def test_no_single_write_stores_one(self, client: httpx.AsyncClient) -> None:
        await client.put("/Observation/o1", json=observation("Patient/p1", id="o1"))
        wrong = observation(NAMED)
        change = [{"op": "replace", "path": "/subject/reference", "value": NAMED}]
        as_patch = {"Content-Type": "application/json-patch+json"}
        for answer in (
            await client.post("/Observation", json=wrong),
            await client.put("/Observation/o1", json={**wrong, "id": "o1"}),
            await client.put("/Observation?code=1", json=wrong),
            await client.patch("/Observation/o1", json=change, headers=as_patch),
        ):
            assert answer.status_code == 422, answer.text
            assert "transaction" in answer.json()["issue"][0]["diagnostics"]
        assert expressions(await client.post("/Observation", json=wrong)) == ["Observation.subject.reference"]
        assert await total(client, "Observation") == 1

    async def test_batches_look_them_up(self, client: httpx.AsyncClient) -> None:
        made = await client.post("/Patient", json=patient((MRN, "1")))
        sent = bundle("batch", entry("POST", "Observation", observation(NAMED)))
        answer = await client.post("/", json=sent, headers={"Prefer": "return=representation"})
        stored = answer.json()["entry"][0]["resource"]
        assert stored["subject"]["reference"] == f"Patient/{made.json()['id']}"

    async def test_a_bundle_that_is_only_kept_may_hold_them(self, client: httpx.AsyncClient) -> None:
        kept = bundle("transaction", entry("POST", "Observation", observation(NAMED)))
        assert (await client.post("/Bundle", json=kept)).status_code == 201

    async def test_a_question_mark_elsewhere_is_no_condition(self, client: httpx.AsyncClient) -> None:
        asked = observation("https://elsewhere.example/fhir/Patient/1", note=[{"text": "Patient?identifier=1"}])
        assert (await client.post("/Observation", json=asked)).status_code == 201


async def test_a_rehearsal_says_what_the_write_would(client: httpx.AsyncClient) -> None:
    never = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "x",
        "criteria": "Patient?active=true",
        "channel": {"type": "rest-hook", "endpoint": "https://elsewhere.example"},
    }
    for type_name, sent in (("Subscription", never), ("Observation", observation(NAMED))):
        refused = await client.post(f"/{type_name}", json=sent)
        rehearsed = await client.post(f"/{type_name}/$validate?mode=create", json=sent)
        assert (refused.status_code, rehearsed.status_code) == (422, 200)
        assert rehearsed.json()["issue"] == refused.json()["issue"]
