"""The whole way over real sockets: record → files → simulated gateway → answers → balance that closes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest

from ehr.access.policy import Caller
from ehr.clock import SystemClock
from ehr.database.hand import Plans
from ehr.errors import Unavailable
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from sync import accounts, gateway
from sync.gateway import Gateway, GatewayRefused
from sync.gateway_sim.books import Books
from sync.gateway_sim.faults import Faults
from sync.gateway_sim.serve import GatewaySim, gateway_sim
from sync.reconcile import Balance, balance
from sync.schedule import Round, run_sync

if TYPE_CHECKING:
    from tests.insurance.conftest import Episodes

T = TypeVar("T")


class Killed(BaseException):
    """The process died here."""


class MovableClock(SystemClock):
    """The present, shifted."""

    shift = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.shift

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.shift.total_seconds()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_PAUSE_S", 0.01)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def settings_for(sim: GatewaySim) -> Settings:
    return Settings(insurer_url=sim.url)


async def until_idle(record: Record, sim: GatewaySim, *, rounds_max: int = 30) -> list[Round]:
    """Rounds until nothing is left to do."""
    rounds: list[Round] = []
    for _ in range(rounds_max):
        rounds.append(await run_sync(record, settings_for(sim)))
        if rounds[-1].idle and (await balance(record)).city.pending == 0:
            return rounds
    raise AssertionError(f"not idle after {rounds_max} rounds: {rounds[-1]}")


def agree(report: Balance, sim: GatewaySim) -> None:
    """Our balance closes, and it is the insurer's."""
    assert report.closed, report.problems
    theirs = sim.books.balance()
    assert (report.city.accepted, report.city.rejected) == (theirs["accepted"], theirs["rejected"])
    assert report.city.accepted_dong == Decimal(theirs["accepted_dong"])
    assert report.city.rejected_dong == Decimal(theirs["rejected_dong"])
    assert theirs["misbooked"] == 0


async def seed(record: Record, episodes: "Episodes", count: int = 6) -> None:
    """Episodes of three facilities, in turn out- and inpatient."""
    for number in range(1, count + 1):
        make = episodes.inpatient if number % 2 else episodes.outpatient
        await episodes.write(record, make(number=number, facility=f"01Z0{number % 3 + 1}"))


async def test_happy_day(record: Record, episodes: "Episodes") -> None:
    await seed(record, episodes)
    async with gateway_sim() as sim:
        first = await run_sync(record, settings_for(sim))
        assert (first.batches, first.sealed, first.sent, first.answered, first.problems) == (3, 3, 3, 3, [])
        assert (await run_sync(record, settings_for(sim))).idle
        report = await balance(record)
        agree(report, sim)
        assert (report.city.extracted, report.city.accepted) == (6, 6)
        assert [line.code for line in report.facilities] == ["01Z01", "01Z02", "01Z03"]
        async with httpx.AsyncClient() as client:
            theirs = (await client.get(f"{sim.url}/sim/balance")).json()
        assert theirs["files"] == 3


async def test_rejections_for_real_and_for_hidden_reasons(record: Record, episodes: "Episodes") -> None:
    await seed(record, episodes)
    await episodes.write(record, episodes.outpatient(number=9, facility="01Z01", main="Y83.1"))
    async with gateway_sim(faults=Faults(rejections=0.4, seed=3)) as sim:
        await until_idle(record, sim)
        report = await balance(record)
        agree(report, sim)
        reasons = {held.fault.code for held in sim.books.latest.values() if held.fault}
        assert reasons == {"ICD_CHINH", "GIA_THUOC"}
        async with record.database.acquire() as connection:
            kept = await connection.fetch("SELECT error_code FROM sync_dossier WHERE state = 'rejected'")
        assert {row["error_code"] for row in kept} == reasons
        # the code is mended, and the episode goes again
        await episodes.write(record, episodes.outpatient(number=9, facility="01Z01", main="J20.9"))
        await until_idle(record, sim)
        assert "ICD_CHINH" not in {held.fault.code for held in sim.books.latest.values() if held.fault}
        agree(await balance(record), sim)


async def test_a_bad_day_still_balances(record: Record, episodes: "Episodes") -> None:
    """Outages, lost answers, answers in parts and a share of refusals."""
    await seed(record, episodes, 12)
    faults = Faults(unavailable=0.3, lost=0.4, in_parts=True, rejections=0.2)
    async with gateway_sim(faults=faults) as sim:
        await until_idle(record, sim)
        agree(await balance(record), sim)
        assert len(sim.books.files) > 3, "some file was taken in and its answer lost"
        sent = {file.sha256 for file in sim.books.files.values()}
        assert len(sent) == 3, "a resend is byte for byte the same"


async def test_wrong_totals_are_quarantined_and_nothing_is_lost(record: Record, episodes: "Episodes") -> None:
    await seed(record, episodes, 3)
    async with gateway_sim(faults=Faults(wrong_totals=1.0)) as sim:
        first = await run_sync(record, settings_for(sim))
        assert (first.answered, first.quarantined) == (0, 3)
        report = await balance(record)
        assert report.closed
        assert (report.city.pending, report.quarantined) == (3, 3)
        sim.books.faults = Faults()
        await until_idle(record, sim)
        agree(await balance(record), sim)


async def test_late_answers(record: Record, episodes: "Episodes") -> None:
    clock = MovableClock()
    await seed(record, episodes, 2)
    async with gateway_sim(faults=Faults(answer_after_s=3600), clock=clock) as sim:
        await run_sync(record, settings_for(sim))
        assert (await balance(record)).city.pending == 2
        clock.shift = timedelta(hours=2)
        await until_idle(record, sim)
        agree(await balance(record), sim)


async def test_tokens_are_renewed_before_they_end_and_when_refused(http: httpx.AsyncClient) -> None:
    ours, theirs = MovableClock(), MovableClock()
    async with gateway_sim(faults=Faults(token_life_s=300), clock=theirs) as sim:
        client = Gateway(http, sim.url, accounts.simulated, ours)

        async def ask() -> None:
            with pytest.raises(GatewayRefused, match="404"):
                await client.standing("01Z01", "unknown")

        await ask()
        await ask()
        assert len(sim.books.tokens) == 1
        ours.shift = timedelta(seconds=245)
        await ask()
        assert len(sim.books.tokens) == 2, "renewed a minute before its end"
        theirs.shift = timedelta(seconds=1000)
        await ask()  # 501, then a new token
        assert len({issued.facility_code for issued in sim.books.tokens.values()}) == 1


async def test_each_facility_has_its_own_token(http: httpx.AsyncClient) -> None:
    async with gateway_sim() as sim:
        client = Gateway(http, sim.url, accounts.simulated, SystemClock())
        for code in ("01Z01", "01Z02", "01Z01"):
            with pytest.raises(GatewayRefused):
                await client.standing(code, "unknown")
        assert sorted(issued.facility_code for issued in sim.books.tokens.values()) == ["01Z01", "01Z02"]


async def test_wrong_password(http: httpx.AsyncClient) -> None:
    async with gateway_sim() as sim:
        client = Gateway(http, sim.url, lambda code: accounts.Account(f"{code}_SIM", "wrong"), SystemClock())
        with pytest.raises(GatewayRefused, match="401"):
            await client.send("01Z01", b"<x/>")


async def test_throttling_and_silence(http: httpx.AsyncClient) -> None:
    async with gateway_sim(faults=Faults(calls_per_s=1)) as sim:
        client = Gateway(http, sim.url, accounts.simulated, SystemClock())
        answers = await asyncio.gather(*(client.standing("01Z01", "x") for _ in range(6)), return_exceptions=True)
        assert any(isinstance(answer, Unavailable) for answer in answers)
        url = sim.url
    with pytest.raises(Unavailable, match="3 tries"):
        await Gateway(http, url, accounts.simulated, SystemClock()).send("01Z01", b"<x/>")


async def test_a_yes_without_a_number_is_no_refusal() -> None:
    """The insurer may have the file: its dossiers must not be told as rejected."""
    expires = "2999-01-01T00:00:00Z"
    key = {"access_token": "a", "id_token": "b", "expires_in": expires}
    said = {"maKetQua": "200", "APIKey": key}
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=said))) as client:
        with pytest.raises(Unavailable, match="no transaction number"):
            await Gateway(client, "http://insurer", accounts.simulated, SystemClock()).send("01Z01", b"<x/>")


async def test_a_file_that_cannot_be_read_is_refused_whole(
    record: Record, episodes: "Episodes", monkeypatch: pytest.MonkeyPatch
) -> None:
    await seed(record, episodes, 1)
    async with gateway_sim() as sim:

        def refuse(*_: Any, **__: Any) -> None:
            raise ArithmeticError

        monkeypatch.setattr(Books, "receive", refuse)
        done = await run_sync(record, settings_for(sim))
        assert (done.sent, done.refused) == (0, 1)
        report = await balance(record)
        assert report.closed
        assert report.city.rejected == 1


async def test_a_day_with_a_crash_at_every_step(record: Record, episodes: "Episodes") -> None:
    """The process dies before or after each of its transactions in turn; the next one finishes the day."""
    await seed(record, episodes, 3)
    async with gateway_sim(faults=Faults(rejections=0.3, seed=1)) as sim:
        deaths = number = 0
        for after_commit in (False, True):
            for step in range(1, 60):
                number += 1
                await episodes.write(record, episodes.outpatient(number=20 + number, facility="01Z01"))
                try:
                    await run_sync(_Dying(record, step, after_commit=after_commit), settings_for(sim))
                except Killed:
                    deaths += 1
                    await until_idle(record, sim)
                    agree(await balance(record), sim)
                else:
                    break
        assert deaths >= 14, "extract twice, open, seal, note sent, answer, reconcile: before and after each"
        agree(await balance(record), sim)
        async with record.database.acquire() as connection:
            rows = await connection.fetch("SELECT ma_giao_dich, sha256 FROM sync_batch")
        for row in rows:
            assert sim.books.files[row["ma_giao_dich"]].sha256 == row["sha256"]
        files = {file.sha256 for file in sim.books.files.values()}
        assert files == {row["sha256"] for row in rows}, "exactly one sealed file a batch was ever sent"


async def test_changes_committed_while_files_are_made_are_in_one_of_them(record: Record, episodes: "Episodes") -> None:
    """Eight writers against the synchronisation: every episode arrives, none twice."""
    for code in ("01Z01", "01Z02"):
        await episodes.facility(record, code)
    writing = True

    async def write(worker: int) -> None:
        for number in range(5):
            visit = episodes.outpatient(number=100 * worker + number, facility=f"01Z0{worker % 2 + 1}")
            await episodes.write(record, visit)

    async with gateway_sim() as sim:

        async def synchronise() -> None:
            while writing:
                await run_sync(record, settings_for(sim))
                await asyncio.sleep(0.02)

        running = asyncio.create_task(synchronise())
        await asyncio.gather(*(write(worker) for worker in range(1, 9)))
        writing = False
        await running
        await until_idle(record, sim)
        report = await balance(record)
        agree(report, sim)
        assert report.city.accepted == len(sim.books.latest) == 40


async def test_check_in(http: httpx.AsyncClient) -> None:
    async with gateway_sim() as sim:
        account = accounts.simulated("01Z01")
        token = (
            await http.post(
                f"{sim.url}/api/token/take",
                data={"username": account.username, "password": gateway.password_hash(account)},
            )
        ).json()["APIKey"]
        headers = {
            "accessToken": token["access_token"],
            "tokenId": token["id_token"],
            "passwordHash": gateway.password_hash(account),
        }
        form = {
            "username": account.username,
            "loaiHoSo": "0",
            "maTinh": "01",
            "maCSKCB": "01Z01",
            "fileHSBase64": "PHgvPg==",
        }
        answer = (await http.post(f"{sim.url}/api/qd130/checkInKcbQd4750", headers=headers, data=form)).json()
        assert answer["maKetQua"] == "205"


class _Dying(Record):
    """A record whose process dies at its n-th transaction."""

    def __init__(self, living: Record, step: int, *, after_commit: bool) -> None:
        self.__dict__.update(living.__dict__)
        self._left, self._after = step, after_commit

    async def run(self, caller: Caller, work: Callable[[UnitOfWork], Awaitable[T]], *, plans: Plans = "values") -> T:
        self._left -= 1
        dies = self._left == 0

        async def dying(uow: UnitOfWork) -> T:
            result = await work(uow)
            if dies and not self._after:
                raise Killed
            return result

        result = await super().run(caller, dying, plans=plans)
        if dies:
            raise Killed
        return result
