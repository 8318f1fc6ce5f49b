"""The operators' console: why messages did not get in, lists that can be walked, and what empty ones say."""

import re

import orjson
import pytest

from ehr.store import ledger
from ehr.web import ops
from ehr.web.ops import operator_link
from tests.api.conftest import City
from tests.api.test_api_pages import browser

DATE = {"code": "value", "at": "PID-7", "text": "20261341 is no date", "severity": "error"}
ABSENT = {"code": "required", "at": None, "text": "no PID segment", "severity": "error"}
HINT = {"code": "informational", "at": "PV1-3", "text": "not known here", "severity": "warning"}


async def kept(city: City, facility: int, control_id: str, state: str, *issues: object, days: int = 0) -> None:
    async with city.record.database.acquire() as connection:
        await connection.execute(
            "insert into intake_message (facility_id, channel, kind, control_id, sha256, body, state, received, issues)"
            " values ($1, 'mllp', 'ADT^A01', $2, sha256($2::text::bytea), ''::bytea, $3,"
            " now() - make_interval(days => $4), $5::text::jsonb)",
            facility,
            control_id,
            state,
            days,
            orjson.dumps(issues).decode() if issues else None,
        )


async def test_causes_are_counted_and_lead_to_their_messages(city: City, facilities: list[int]) -> None:
    for number in range(3):
        await kept(city, facilities[number % 2], f"DATE{number}", "refused", {**DATE, "text": f"value {number}"}, HINT)
    await kept(city, facilities[0], "OLD", "refused", DATE, days=8)
    await kept(city, facilities[1], "NOPID", "failed", ABSENT, days=8)
    made = await browser(city, operator_link(city.authenticator.tokens, "operator-hoa"), "/ops")
    page = " ".join((await made.get("/ops/causes")).text.split())
    assert '<html lang="en">' in page
    rows = re.findall(r'<td class="alert">(\w+)</td><td>([^<]*)</td><td>(\w+)</td>.*?href="([^"]+)">(\d+)</a>', page)
    assert [(state, at, code, count) for state, at, code, _, count in rows] == [
        ("failed", "—", "required", "1"),
        ("refused", "PID-7", "value", "3"),
    ]
    shown = (await made.get(rows[1][3].replace("&amp;", "&"))).text
    assert re.findall(r'class="mark">(\w+)<', shown) == ["OLD", "DATE2", "DATE1", "DATE0"]
    assert "NOPID" in (await made.get(rows[0][3].replace("&amp;", "&"))).text


async def test_every_message_of_a_facility_can_be_reached(
    city: City, facilities: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "PAGE_COUNT", 2)
    for number in range(5):
        await kept(city, facilities[0], f"M{number}", "received")
    made = await browser(city, operator_link(city.authenticator.tokens, "operator-hoa"), "/ops")
    for path in ("/ops/facilities/01Z01", "/ops/messages?state=received"):
        seen: list[str] = []
        query = ""
        address = path
        while address:
            text = (await made.get(address)).text
            seen += re.findall(r'class="mark">(M\d)<', text)
            further = re.search(r'href="(\?[^"]*before=\d+)"', text)
            query = further[1].replace("&amp;", "&") if further else ""
            address = path.split("?")[0] + query if query else ""
        assert seen == ["M4", "M3", "M2", "M1", "M0"], path


async def test_an_empty_list_says_what_it_means(city: City, facilities: list[int]) -> None:
    made = await browser(city, operator_link(city.authenticator.tokens, "operator-hoa"), "/ops")
    assert "Nothing failed" in (await made.get("/ops/causes")).text
    for state in ops.STATES:
        assert "No message here" not in (page := (await made.get(f"/ops/messages?state={state}")).text)
        assert "Nothing" in page
    assert "Its first one shows here" in (await made.get("/ops/facilities/01Z01")).text
    assert (await made.get("/ops/messages?state=failed&code=%00&at=%27")).status_code == 200


async def test_what_a_replay_would_take_is_counted_by_facility(city: City, facilities: list[int]) -> None:
    for number, state in enumerate(("received", "failed", "refused", "applied")):
        await kept(city, facilities[0], f"A{number}", state)
    await kept(city, facilities[1], "B", "failed")
    async with city.record.database.acquire() as connection:
        assert await ledger.waiting(connection) == {"01Z01": 2, "01Z02": 1}
