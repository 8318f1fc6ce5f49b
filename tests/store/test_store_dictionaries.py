"""Dictionaries: trained once, known to running processes, never lost, and only kept where they are worth it."""

import asyncio
import random

import zstandard

from ehr.access.policy import Caller
from ehr.fhir.r4 import TYPE_IDS
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store import dictionaries
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

BASIC = TYPE_IDS["Basic"]
WORDS = ["huyết áp", "nhịp tim", "thân nhiệt", "cân nặng", "chiều cao", "đường huyết", "men gan", "bạch cầu"]


def id_of(number: int, seed: str) -> str:
    return f"b{number}" if not seed else f"later{number}"


def tree(number: int, seed: str = "") -> dict[str, object]:
    chosen = random.Random(f"{seed}{number}")
    text = ", ".join(f"{word} {seed} {chosen.randint(1, 999)}" for word in chosen.sample(WORDS, 5))
    return {"resourceType": "Basic", "id": id_of(number, seed), "code": {"text": text}}


async def write(record: Record, numbers: range, seed: str = "") -> None:
    async def work(uow: UnitOfWork) -> None:
        for number in numbers:
            await uow.resources.update("Basic", id_of(number, seed), None, tree(number, seed))

    await record.write(Caller.system("test"), work)


async def frames(record: Record) -> dict[str, bytes]:
    async with record.database.acquire() as connection:
        rows = await connection.fetch("select id, body from resource where type_id = $1", BASIC)
    return {row["id"]: row["body"] for row in rows}


def number_of(frame: bytes) -> int:
    return int(zstandard.get_frame_parameters(frame).dict_id)


def bodies(seed: str = "") -> list[bytes]:
    return [str(tree(number, seed)).encode() for number in range(dictionaries.SAMPLES_MIN)]


async def test_what_one_process_writes_with_a_new_dictionary_another_reads(record: Record, settings: Settings) -> None:
    other = await open_record(settings, record.database.url)
    try:
        await write(record, range(1))
        await dictionaries.provide(record, {"Basic": bodies()})
        await write(record, range(1, 2))
        stored = await frames(record)
        assert (number_of(stored["b0"]), number_of(stored["b1"])) == (0, dictionaries.FIRST_NUMBER)
        assert len(stored["b1"]) < len(stored["b0"]) * 0.8
        assert not other.bodies.has_dictionary(BASIC)
        async with other.reading(Caller.system("test")) as uow:
            for id in ("b0", "b1"):
                body = (await uow.resources.read("Basic", id)).body
                assert body is not None
                assert body.startswith(f'{{"resourceType":"Basic","id":"{id}"'.encode())
        await write(other, range(2, 3))
        assert number_of((await frames(record))["b2"]) == dictionaries.FIRST_NUMBER
    finally:
        await other.close()


async def test_processes_that_want_one_at_once_make_one(record: Record, settings: Settings) -> None:
    others = [await open_record(settings, record.database.url) for _ in range(3)]
    try:
        await asyncio.gather(*(dictionaries.provide(one, {"Basic": bodies()}) for one in others))
        async with record.database.acquire() as connection:
            assert await connection.fetchval("select count(*) from zstd_dictionary") == 1
        assert all(one.bodies.has_dictionary(BASIC) for one in others)
    finally:
        for one in others:
            await one.close()


async def test_a_later_dictionary_is_kept_where_it_is_worth_it_and_the_earlier_stays_readable(record: Record) -> None:
    await write(record, range(dictionaries.SAMPLES_MIN - 1))
    assert await dictionaries.retrain(record) == []
    await write(record, range(dictionaries.SAMPLES_MIN - 1, 500))
    (first,) = await dictionaries.retrain(record)
    assert (first.type_name, first.samples, first.kept) == ("Basic", 400, True)
    assert first.after < first.before * 0.8
    (again,) = await dictionaries.retrain(record)
    assert not again.kept
    await write(record, range(500, 600))
    await write(record, range(3_000), seed="sau này mọi thứ viết khác đi ")
    (later,) = await dictionaries.retrain(record)
    assert later.kept
    await write(record, range(600, 601))
    stored = await frames(record)
    numbers = [number_of(stored[id]) for id in ("b0", "b500", "b600")]
    assert numbers == [0, dictionaries.FIRST_NUMBER, dictionaries.FIRST_NUMBER + 1]
    for number in (0, 500, 600):
        assert str(tree(number)["code"])[10:30].encode() in record.bodies.decompress(stored[f"b{number}"])


async def test_samples_that_make_no_dictionary_stop_nobody(record: Record) -> None:
    await dictionaries.provide(record, {"Basic": [b""] * dictionaries.SAMPLES_MIN})
    assert not record.bodies.has_dictionary(BASIC)
    await write(record, range(1))
    assert number_of((await frames(record))["b0"]) == 0
