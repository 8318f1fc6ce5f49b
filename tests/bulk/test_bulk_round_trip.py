"""Exported, imported into an empty record and exported again, everything is the same apart from server metadata."""

import functools
import json
import random
import re
import unicodedata
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ehr import limits
from ehr.bulk import job
from ehr.jobs.queue import Queue
from ehr.record import open_record
from ehr.settings import Settings
from ehr.store.record import Record
from tests.bulk.test_bulk_export import Store, begin, finish, key_of, lines_of, put, state_of
from tests.conftest import Server, run


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "export_chunk_resources", 40)


ODD = [
    b'{"resourceType":"Observation","id":"digits","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.10}}',
    b'{\n  "resourceType" : "Observation",\r\n  "id" : "pretty",\n  "status" : "final",'
    b'\n  "code" : { "text" : "a  b\\n c" },\n  "valueQuantity" : { "value" : 6.02E+23 }\n}',
    '{"resourceType":"Basic","id":"text","code":{"text":"Ho\u0323 Te\u0302n \\u0110a\u0300o \U0001f3e5 \\/"}}'.encode(),
    b'{"id":"order","code":{"text":"0.000000000000000000010"},"resourceType":"Basic"}',
    b'{"resourceType":"Organization","id":"tagged","meta":{"tag":[{"code":"t"}],"versionId":"9"},"name":"  N  "}',
]
NUMBERS = ("1.0", "0.00", "-3.140", "1E-7", "1.50e+2", "12345678901234567.12345", "7")
WORDS = (
    "Đặng Thị Ánh",
    unicodedata.normalize("NFD", "Lê Thế Bảo"),
    r"Nguy\u1ec5n",
    "xã Hòa Sơn \U0001f3e5",
    " a  b ",
    "0.10",
)


def odd(rng: random.Random, n: int) -> bytes:
    """A resource as a careful sender writes it: digits, texts, contained resources, extensions on primitives, nulls."""

    def word() -> str:
        return f'"{rng.choice(WORDS)}"'

    def extended() -> str:
        return f'{{"extension":[{{"url":"urn:x","valueDecimal":{rng.choice(NUMBERS)}}}]}}'

    if rng.random() < 0.5:
        members = [
            '"resourceType":"Organization"',
            f'"name":{word()},"_name":{extended()}',
            f'"alias":[{word()},null,{word()}],"_alias":[null,{extended()},null]',
            '"partOf":{"reference":"#c"}',
            f'"contained":[{{"resourceType":"Organization","id":"c","name":{word()},"_active":{extended()}}}]',
        ]
    else:
        low, high = rng.choice(NUMBERS), rng.choice(NUMBERS)
        members = [
            '"resourceType":"Observation"',
            f'"status":"final","_status":{extended()}',
            f'"code":{{"text":{word()},"_text":{extended()}}}',
            f'"valueQuantity":{{"value":{low},"unit":{word()}}}',
            f'"component":[{{"code":{{"text":{word()}}},"valueQuantity":{{"value":{high}}}}}]',
        ]
    members.append(f'"id":"odd{n}"')
    rng.shuffle(members)
    return ("{" + rng.choice((",", ", ", ",\n  ")).join(members) + "}").encode()


SERVER_META = re.compile(rb'"(?:versionId|lastUpdated)":"[^"]*"')


@pytest.fixture
def second_url(postgres_server: Server) -> Iterator[str]:
    name = run(postgres_server.create(template=postgres_server.template))
    yield postgres_server.named(name)
    run(postgres_server.drop(name))


@pytest.fixture
async def second(settings: Settings, second_url: str) -> AsyncIterator[Record]:
    """Another, empty record."""
    opened = await open_record(settings, second_url)
    yield opened
    await opened.close()


def _digits(body: bytes) -> dict[str, Any]:
    """The tree with numbers as they are written, without what the server sets."""
    tree: dict[str, Any] = json.loads(body, parse_float=str, parse_int=str)
    meta = {name: value for name, value in tree.pop("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    return {**tree, "meta": meta}


async def test_export_import_export_is_the_same_apart_from_server_metadata(
    record: Record, second: Record, settings: Settings, data_dir: Path
) -> None:
    rng = random.Random(7)
    sent = [*ODD, *(odd(rng, n) for n in range(60))]
    for body in sent:
        await put(record, body)
    await Store(record, 3).write(40)
    first = await finish(record, await begin(record, data_dir))
    folder = Path(first.params["home"]) / first.id
    queue = Queue(second.database)
    opener = functools.partial(open_record, settings, second.database.url)
    import_id = await job.plan(queue, [folder], data_dir / "imports")
    done = await job.run_here(second, queue, import_id, opener, processes=1, seen=lambda _: None)
    assert (done.stored, done.refused) == (len(lines_of(first)), 0)
    again = await finish(second, await begin(second, data_dir))
    made, kept = (sorted(SERVER_META.sub(b"", line) for line in lines_of(one)) for one in (first, again))
    assert made == kept
    found = {key: _digits(line) for key, line in state_of(first).items()}
    assert {key: found[key] for key in map(key_of, map(json.loads, sent))} == {
        key_of(json.loads(body)): _digits(body) for body in sent
    }
    everything = b"\n".join(made)
    for piece in (b'"value":1.10', b"6.02E+23", "Ho\u0323 Te\u0302n \\u0110a\u0300o \U0001f3e5 \\/".encode()):
        assert piece in everything, "digits and text as they were sent"
