"""Patient/[id]/$summary and Person/[id]/$summary as documents that are asked for again, from elsewhere, and by tag."""

from ehr.access.policy import Caller
from ehr.store.unit_of_work import UnitOfWork
from ehr.summary.gather import sources_of_person
from ehr.summary.refresh import Document, summary_of
from tests.api.conftest import City
from tests.api.test_api_pages import CCCD, person


async def worked_off(city: City) -> None:
    """As if a worker had taken the outbox: what is kept from now on stays."""
    async with city.record.database.acquire() as connection:
        await connection.execute("DELETE FROM outbox")


async def test_the_entity_tag_is_one_that_can_be_sent_back(city: City) -> None:
    id = await person(city, CCCD, "Nguyễn Thị Hà")
    client = city.system("system/*.rs")
    await worked_off(city)
    first = await client.get(f"/Person/{id}/$summary")
    assert first.headers["etag"].startswith('W/"')
    again = await client.get(f"/Person/{id}/$summary", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


async def test_every_source_patient_gives_the_same_document(city: City) -> None:
    id = await person(city, CCCD, "Nguyễn Thị Hà")
    client = city.system()
    links = (await client.get(f"/Person/{id}")).json()["link"]
    patients = [link["target"]["reference"] for link in links]
    assert len(patients) == 2
    subjects = set()
    for asked in (*patients, f"Person/{id}"):
        touched = await client.post(
            "/Condition", json={"resourceType": "Condition", "subject": {"reference": patients[0]}}
        )
        assert touched.status_code == 201, "so that the kept document is stale, whoever asks"
        composition = (await client.get(f"/{asked}/$summary")).json()["entry"][0]["resource"]
        subjects.add(composition["subject"]["reference"])
    assert len(subjects) == 1


async def test_a_document_made_for_another_address_is_made_anew(city: City) -> None:
    """The server moved: its documents must not name the old place."""
    id = await person(city, CCCD, "Nguyễn Thị Hà")

    async def asked_at(base: str) -> Document:
        async def ask(uow: UnitOfWork) -> Document:
            return await summary_of(uow, await sources_of_person(uow, id), base_url=base)

        return await city.record.run(Caller.system("reader"), ask)

    await worked_off(city)
    old, new = "https://old.example.org/fhir", "https://new.example.org/fhir"
    assert old.encode() in (await asked_at(old)).body
    moved = await asked_at(new)
    assert old.encode() not in moved.body
    assert f'"{new}/Composition/'.encode() in moved.body
    assert (await asked_at(new)).etag == moved.etag, "and kept from then on"
