"""`ehr facility`: a place of care may send from its registration on, until it is closed."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from adapters.pipeline import Pipeline
from ehr import cli
from ehr.errors import Invalid, NotFound
from ehr.intake import Intake
from ehr.record import open_record
from ehr.settings import Settings
from tests.mllp.mothers import admission, code_of, search

CODE = "01001"
Facility = Callable[..., Any]


@pytest.fixture
def facility(database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Facility:
    monkeypatch.setenv("EHR_DATABASE_URL", database_url)
    return lambda *words: CliRunner().invoke(cli.app, ["facility", *words, "--data-dir", str(data_dir)])


def test_messages_are_taken_as_long_as_the_facility_is_registered(
    facility: Facility, database_url: str, data_dir: Path
) -> None:
    message = admission().replace(b"01Z01", CODE.encode())

    async def sent(block: bytes) -> bytes:
        """By a process of its own, which remembers no facility from before."""
        record = await open_record(Settings(data_dir=data_dir, database_url=SecretStr(database_url)), database_url)
        try:
            return await Pipeline(Intake(record)).receive_hl7(block, "test")
        finally:
            await record.close()

    unknown = asyncio.run(sent(message))
    assert code_of(unknown) == "AR"
    assert CODE.encode() in unknown
    for _ in range(2):
        assert facility("register", CODE, "Bệnh viện Thử", "--kind", "hospital", "--district", "Ba Đình").exit_code == 0
    assert code_of(asyncio.run(sent(message))) == "AA"
    later = message.replace(b"|A1|", b"|A2|")
    assert facility("close", CODE).exit_code == 0
    assert code_of(asyncio.run(sent(later))) == "AR"
    (row,) = map(json.loads, facility("list").stdout.splitlines())
    assert (row["code"], row["kind"], row["active"]) == (CODE, "hospital", False)
    assert facility("register", CODE, "Bệnh viện Thử").exit_code == 0
    assert code_of(asyncio.run(sent(later))) == "AA"

    async def places() -> list[list[dict[str, Any]]]:
        record = await open_record(Settings(data_dir=data_dir, database_url=SecretStr(database_url)), database_url)
        try:
            return [await search(record, kind, identifier=CODE) for kind in ("Organization", "Location")]
        finally:
            await record.close()

    (organization,), (location,) = asyncio.run(places())
    assert organization["name"] == location["name"] == "Bệnh viện Thử"
    assert location["managingOrganization"]["reference"] == f"Organization/{organization['id']}"


def test_wrong_codes_are_named(facility: Facility) -> None:
    for words, kind in (
        (("register", "0100", "x"), Invalid),
        (("register", CODE, " "), Invalid),
        (("close", CODE), NotFound),
    ):
        assert isinstance(facility(*words).exception, kind), words
