"""Episodes of the simulated city, sent as its facilities send them, claimed from the record: the money is theirs.

The city computes its bills apart from us (adapters.facilities.money), so the totals of XML1 are computed twice.
"""

from collections.abc import AsyncIterator
from datetime import date
from typing import Final

import pytest

from adapters.facilities import bundle, claim_xml, hl7
from adapters.facilities.arrivals import arrivals
from adapters.facilities.episode import Episode
from adapters.facilities.episodes import episode
from adapters.facilities.population import Population
from adapters.facilities.register import register_facilities
from adapters.facilities.registry import FACILITIES, Facility
from adapters.pipeline import Pipeline
from ehr.access.policy import Caller
from ehr.intake import Intake
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from sync.batch import unpacked
from sync.gateway_sim.serve import gateway_sim
from sync.opened import opened
from sync.reconcile import balance
from sync.schedule import run_sync

SEED: Final = 11
DAY: Final = date(2026, 11, 20)
MONEY: Final = ("T_THUOC", "T_VTYT", "T_TONGCHI_BV", "T_TONGCHI_BH", "T_BNTT", "T_BNCCT", "T_BHTT", "T_NGUONKHAC")
SAME: Final = (
    *("MA_BN", "HO_TEN", "SO_CCCD", "NGAY_SINH", "GIOI_TINH", "MA_THE_BHYT", "MA_DKBD", "GT_THE_TU", "GT_THE_DEN"),
    *("MA_BENH_CHINH", "MA_BENH_KT", "MA_DOITUONG_KCB", "NGAY_VAO", "NGAY_RA", "SO_NGAY_DTRI", "KET_QUA_DTRI"),
    *("MA_LOAI_RV", "MA_LOAI_KCB", "MA_KHOA", "CAN_NANG", "MA_HSBA"),
)


@pytest.fixture
async def city(database_url: str) -> AsyncIterator[Record]:
    opened_record = await open_record(Settings(), database_url)
    yield opened_record
    await opened_record.close()


def one_of_each_kind() -> list[Facility]:
    kinds = {facility.kind: facility for facility in reversed(FACILITIES)}
    return list(kinds.values())


def insured_episodes(facility: Facility, count: int) -> list[Episode]:
    """The first insured visits and stays of a morning."""
    population = Population(SEED, 20_000)
    found = [
        episode(SEED, population, arrival) for hour in (8, 9, 10) for arrival in arrivals(SEED, facility, DAY, hour)
    ]
    insured = [one for one in found if one.insured]
    stays = [one for one in insured if one.kind == "inpatient"]
    return (stays[: count // 2] + [one for one in insured if one.kind != "inpatient"])[:count]


async def send(record: Record, channel: str, facility: Facility, sent: list[Episode]) -> None:
    """Through the door the facility's feed goes through."""
    pipeline = Pipeline(Intake(record))
    async with record.database.acquire() as connection:
        facility_id = await connection.fetchval("SELECT id FROM facility WHERE code = $1", facility.code)
    caller = Caller.of_facility(facility_id, facility.code)
    for one in sent:
        if channel == "hl7v2":
            for message in hl7.messages(one):
                answer = await pipeline.receive_hl7(message.payload, "test")
                assert b"MSA|AA" in answer, answer
        elif channel == "fhir":
            status, answer = await pipeline.receive_bundle(bundle.departure(one, f"C{one.link}"), caller, {})
            assert status == 200, answer
        else:
            status, answer = await pipeline.receive_claim_xml(claim_xml.envelope(one), caller)
            assert status in {200, 201, 202}, answer


@pytest.mark.parametrize("channel", ["fhir", "claim_xml", "hl7v2"])
async def test_every_kind_of_facility_is_paid_what_it_billed(city: Record, channel: str) -> None:
    facilities = one_of_each_kind()
    await register_facilities(city, facilities)
    sent: dict[str, Episode] = {}
    for facility in facilities:
        chosen = insured_episodes(facility, 4)
        sent |= {one.link: one for one in chosen}
        await send(city, channel, facility, chosen)
    assert {one.kind for one in sent.values()} >= {"inpatient", "station"}
    async with gateway_sim() as sim:
        done = await run_sync(city, Settings(insurer_url=sim.url))
        assert done.problems == []
        async with city.database.acquire() as connection:
            open_ends = await connection.fetch("SELECT error_text FROM sync_dossier WHERE state <> 'accepted'")
        assert [row["error_text"] for row in open_ends] == []
        assert len(sim.books.latest) == len(sent)
        report = await balance(city)
        assert report.closed
        assert report.city.accepted == len(sent)
    for ma_lk, ours in (await summaries(city)).items():
        theirs = claim_xml.rows(sent[ma_lk])["XML1"][0]
        for name in (*MONEY, *SAME):
            assert ours[name] == theirs.get(name, ""), (ma_lk, name)


async def summaries(record: Record) -> dict[str, dict[str, str]]:
    """MA_LK → XML1 as sealed."""
    async with record.database.acquire() as connection:
        rows = await connection.fetch("SELECT body, sha256 FROM sync_batch")
    contents = [opened(unpacked(row["body"], row["sha256"])) for row in rows]
    return {one.ma_lk: dict(one.summary) for content in contents for one in content}
