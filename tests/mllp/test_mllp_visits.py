"""The state of a visit is that of its newest message that stated one, in whatever order they come."""

from itertools import permutations

import pytest

from adapters.mllp.client import MllpClient
from ehr.clock import ICT
from ehr.store.record import Record
from tests.mllp.mothers import LINK, MRN, admission, code_of, header, message, pid, pv1, result, search, update

EPISODE = "http://fhir.hl7.org.vn/core/sid/ma-lk"
ADMITTED, ENDED, LATER = ("20261123" + hour + "+0700" for hour in ("080000", "090000", "093000"))


def event(name: str, at: str, **visit: str) -> bytes:
    return message(header(f"ADT^{name}", f"{name}-{at}", at=at), f"EVN|{name}|{at}", pid(), pv1(**visit))


END = event("A03", ENDED, ended=ENDED, disposition="1")


async def visit_after(record: Record, client: MllpClient, *sent: bytes) -> tuple[str, bool, bool]:
    """(status, whether it has an end, whether it has a disposition)."""
    for one in sent:
        assert code_of(await client.send(one)) == "AA"
    (visit,) = await search(record, "Encounter", identifier=f"{EPISODE}|{LINK}")
    return visit["status"], "end" in visit["period"], "hospitalization" in visit


@pytest.mark.parametrize(
    ("flow", "state"),
    [
        ((admission(at=ADMITTED), END, update("U", at=LATER)), ("finished", True, True)),
        ((admission(at=ADMITTED), END, event("A13", LATER)), ("in-progress", False, False)),
        ((admission(at=ADMITTED), event("A11", ENDED), update("U", at=LATER)), ("cancelled", False, False)),
        ((admission(at=ADMITTED), result(at=ENDED), update("U", at=LATER)), ("in-progress", False, False)),
    ],
    ids=["an update after the discharge", "a discharge taken back", "a cancelled visit", "no discharge"],
)
async def test_every_order_ends_in_one_state(
    record: Record, client: MllpClient, flow: tuple[bytes, ...], state: tuple[str, bool, bool]
) -> None:
    reached = []
    for place, order in enumerate(permutations(flow)):
        # a visit of its own for each order
        sent = [one.replace(LINK.encode(), f"{LINK}-{place}".encode()) for one in order]
        for one in sent:
            assert code_of(await client.send(one)) == "AA"
        (visit,) = await search(record, "Encounter", identifier=f"{EPISODE}|{LINK}-{place}")
        reached.append((visit["status"], "end" in visit["period"], "hospitalization" in visit))
    assert reached == [state] * len(reached)


async def test_what_an_update_says_of_a_taken_back_discharge_stays(record: Record, client: MllpClient) -> None:
    told = update("U", at="20261123100000+0700").replace(pv1().encode(), pv1(disposition="2").encode())
    assert await visit_after(record, client, END, event("A13", LATER), told) == ("in-progress", False, True)
    assert await visit_after(record, client, event("A02", ENDED)) == ("in-progress", False, True)


async def test_a_clock_ahead_of_the_arrival_makes_no_later_message_late(record: Record, client: MllpClient) -> None:
    """A time after the arrival is a wrong clock: what the facility sends when it is set right must count."""
    ahead = admission(at="20991123080000+0700")
    assert await visit_after(record, client, ahead) == ("in-progress", False, False)
    now = record.clock.now().astimezone(ICT).strftime("%Y%m%d%H%M%S%z")
    ended = event("A03", now, ended=ENDED, disposition="1")
    assert await visit_after(record, client, ended, update("U", at=now, name="Trần^Bình")) == ("finished", True, True)
    (patient,) = await search(record, "Patient", identifier=MRN)
    assert [name["text"] for name in patient["name"]] == ["Trần Bình"]


async def test_silence_keeps_the_class_and_a_later_word_gives_it(record: Record, client: MllpClient) -> None:
    silent = update("1", at=ENDED).replace(b"PV1|1|O|", b"PV1|1||")
    for sent in (silent, admission("2", at=ADMITTED), update("3", at=LATER).replace(b"PV1|1|O|", b"PV1|1||")):
        assert code_of(await client.send(sent)) == "AA"
    (visit,) = await search(record, "Encounter", identifier=f"{EPISODE}|{LINK}")
    assert visit["class"]["code"] == "AMB"
