"""The operations console: 661 facilities in one list, a message found in two clicks.

Routes   GET /ops, /ops/facilities.fragment        all facilities, those with the oldest waiting message first
         GET /ops/facilities/{code}                one facility and its messages
         GET /ops/messages?state=, /ops/messages/{id}   messages and what is wrong with them
         GET /ops/causes                           the same by cause, with count and oldest age
         POST /ops/messages/{id}                   show the bytes as received, with a reason that is audited
         GET /ops/insurance, /ops/jobs             batches and background work
         GET /ops/enter?link=…                     exchange an operator's link (`ehr console`) into a cookie
Access   callers who may read and search every type (operators), or the system under open access
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ehr import limits
from ehr.access.authenticate import Authenticator, issue_token
from ehr.access.policy import Caller
from ehr.access.spent import may_enter
from ehr.access.token import LINK, NotAccepted, Tokens
from ehr.errors import NotFound
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.intake import LEDGER_SYSTEM
from ehr.store import ledger
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from ehr.web.pages import enter, page, signed_out

COOKIE: Final = "ehr_operator"
OPERATOR_SCOPE: Final = "system/*.rs"
PAGE_COUNT: Final = 50
ISSUES_SHOWN: Final = 5
SILENT_S: Final = 3_600.0
LEDGER_ID: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_NONE: Final = {
    "received": "Nothing waits: whatever was kept has been applied, refused, or has failed.",
    "applied": "Nothing was applied yet. Facilities show under Facilities when they send.",
    "refused": "Nothing is refused. What a sender must change would show here, with field and reason.",
    "failed": "Nothing has failed. What is ours to repair would show here; ehr message replay tries it again.",
}
"""What a list without messages says, by state."""
STATES: Final = tuple(_NONE)

_SHARDS: Final = "select shard from resource where type_id = $1 and id = any($2)"


def operator_link(tokens: Tokens, name: str) -> str:
    """What a link to the console carries, for one operator, once; the name goes to the audit."""
    return tokens.issue(name, OPERATOR_SCOPE, typ=LINK, life_s=limits.operator_link_life_s, once=True)


class OperatorPages:
    """Handlers of the console's routes."""

    def __init__(self, record: Record, authenticator: Authenticator, base_url: str) -> None:
        self._record = record
        self._authenticator = authenticator
        self._base_url = base_url

    def routes(self) -> list[Route]:
        return [
            Route("/ops", self.home),
            Route("/ops/enter", self.enter),
            Route("/ops/facilities.fragment", self.fragment),
            Route("/ops/facilities/{code}", self.facility),
            Route("/ops/messages", self.messages),
            Route("/ops/messages/{id}", self.message),
            Route("/ops/messages/{id}", self.show, methods=["POST"]),
            Route("/ops/causes", self.causes),
            Route("/ops/insurance", self.insurance),
            Route("/ops/jobs", self.jobs),
        ]

    async def _operator(self, request: Request) -> Caller | None:
        headers = dict(request.headers)
        if COOKIE in request.cookies:
            headers["authorization"] = f"Bearer {request.cookies[COOKIE]}"
        try:
            caller = self._authenticator.caller(headers, request.client.host if request.client else None)
        except NotAccepted:
            return None
        every = caller.grants.allow("*", "r") and caller.grants.allow("*", "s")
        if not every or caller.person_id is not None or caller.facility_id:
            return None
        return replace(caller, purpose="HOPERAT")

    async def enter(self, request: Request) -> Response:
        tokens = self._authenticator.tokens
        try:
            claims = tokens.verify(request.query_params.get("link", ""), typ=LINK)
        except NotAccepted:
            return signed_out(request, "operators")
        if claims.kind != "client" or claims.scope != OPERATOR_SCOPE:
            return signed_out(request, "operators")
        async with self._record.database.acquire() as connection:
            if not await may_enter(connection, claims):
                return signed_out(request, "operators")
        return enter(
            issue_token(tokens, claims.subject, OPERATOR_SCOPE, life_s=limits.operator_session_life_s),
            cookie=COOKIE,
            path="/ops",
            life_s=limits.operator_session_life_s,
            secure=self._base_url.startswith("https:"),
        )

    async def home(self, request: Request) -> Response:
        if await self._operator(request) is None:
            return signed_out(request, "operators")
        context = await self._facilities(request)
        live = "/ops/facilities.fragment" + (f"?{request.url.query}" if request.url.query else "")
        return page(request, "ops.html", live=live, **context)

    async def fragment(self, request: Request) -> Response:
        if await self._operator(request) is None:
            return signed_out(request, "operators")
        return page(request, "ops_facilities.html", **await self._facilities(request))

    async def _facilities(self, request: Request) -> dict[str, Any]:
        asked = {name: request.query_params.get(name, "") for name in ("q", "kind", "feed", "show")}
        now = self._record.clock.now()
        async with self._record.database.acquire() as connection:
            found = await ledger.facility_status(connection)
        return {
            "facilities": [f for f in found if _shown(f, asked, now)],
            "city": city(found, now),
            "now": now,
            **asked,
        }

    async def facility(self, request: Request) -> Response:
        if await self._operator(request) is None:
            return signed_out(request, "operators")
        async with self._record.database.acquire() as connection:
            found = await ledger.facility_status(connection, request.path_params["code"].replace("\0", ""))
            if not found:
                raise NotFound("no active facility has this code")
            before = _number(request.query_params.get("before", ""))
            messages = await ledger.entries(connection, facility_id=found[0].id, before=before, limit=PAGE_COUNT)
        heading = f"{found[0].code} · {found[0].name}"
        return self._messages(request, messages, heading=heading, facility=found[0])

    def _messages(
        self,
        request: Request,
        messages: list[ledger.LedgerEntry],
        *,
        heading: str,
        facility: ledger.FacilityStatus | None = None,
        empty: str = "No message yet. Its first one shows here as soon as it is kept.",
    ) -> Response:
        """A page of messages; the link to older ones asks for the same of what came before the last."""
        older = None
        if len(messages) == PAGE_COUNT:
            older = "?" + urlencode({**request.query_params, "before": messages[-1].id})
        return page(
            request,
            "ops_messages.html",
            heading=heading,
            facility=facility,
            messages=messages,
            older=older,
            empty=empty,
            issues_shown=ISSUES_SHOWN,
            now=self._record.clock.now(),
        )

    async def messages(self, request: Request) -> Response:
        if await self._operator(request) is None:
            return signed_out(request, "operators")
        state = request.query_params.get("state", "refused")
        if state not in STATES:
            raise NotFound(f"a message is one of {', '.join(STATES)}")
        before = request.query_params.get("before", "")
        async with self._record.database.acquire() as connection:
            found = await ledger.entries(
                connection, states=[state], cause=_cause(request), before=_number(before), limit=PAGE_COUNT
            )
        return self._messages(request, found, heading=f"Messages: {state}", empty=_NONE[state])

    async def causes(self, request: Request) -> Response:
        if await self._operator(request) is None:
            return signed_out(request, "operators")
        async with self._record.database.acquire() as connection:
            found = await ledger.causes(connection)
        linked = [
            {**asdict(one), "link": "/ops/messages?" + urlencode({"state": one.state, "code": one.code, "at": one.at})}
            for one in found
        ]
        days, now = ledger.CAUSES_WINDOW.days, self._record.clock.now()
        return page(request, "ops_causes.html", causes=linked, days=days, now=now)

    async def message(self, request: Request) -> Response:
        if await self._operator(request) is None:
            return signed_out(request, "operators")
        return page(request, "ops_message.html", message=await self._entry(request), raw=None)

    async def show(self, request: Request) -> Response:
        """The bytes as received; the reason goes to the audit in the same transaction."""
        caller = await self._operator(request)
        if caller is None:
            return signed_out(request, "operators")
        form = await request.form()
        reason = str(form.get("reason", "")).strip()
        entry = await self._entry(request)
        if len(reason) < 5:
            return RedirectResponse(f"/ops/messages/{entry.id}", 303)

        async def read(uow: UnitOfWork) -> bytes:
            shards = await self._shards_of(uow, entry.id)
            await uow.audit.execute("show-message", shards=shards, detail={"message": entry.id, "reason": reason[:200]})
            return await ledger.raw(uow.connection, entry.id)

        raw = await self._record.run(caller, read)
        text = raw.decode("utf-8", "backslashreplace").replace("\r", "\n")
        return page(request, "ops_message.html", message=entry, raw=text)

    async def _shards_of(self, uow: UnitOfWork, message_id: int) -> list[int]:
        """Of the patients whom a message was about, as its Provenance names them: they see who opened it."""
        matcher = self._record.matcher
        assert matcher is not None, "an opened record has its search"
        by_message = [("entity:identifier", f"{LEDGER_SYSTEM}|{message_id}")]
        found = await matcher(uow.connection, "Provenance", by_message, uow.access, source=None, limit=PAGE_COUNT)
        patients: set[str] = set()
        for id in found:
            version = await uow.resources.read("Provenance", id)
            assert version.body is not None, "a current version has a body"
            named = (target["reference"].split("/") for target in codec.loads(version.body)["target"])
            patients |= {parts[1] for parts in named if parts[0] == "Patient"}
        rows = await uow.connection.fetch(_SHARDS, TYPE_IDS["Patient"], sorted(patients))
        return [row["shard"] for row in rows]

    async def _entry(self, request: Request) -> ledger.LedgerEntry:
        id = _number(request.path_params["id"])
        async with self._record.database.acquire() as connection:
            entry = None if id is None else await ledger.entry(connection, id)
        if entry is None:
            raise NotFound("no message has this ledger id")
        return entry

    async def insurance(self, request: Request) -> Response:
        if await self._operator(request) is None:
            return signed_out(request, "operators")
        async with self._record.database.acquire() as connection:
            standing = await connection.fetch(_DOSSIERS)
            refused = await connection.fetch(_REFUSED_DOSSIERS)
            batches = await connection.fetch(_BATCHES)
            quarantined = await connection.fetchval("select count(*) from sync_quarantine")
        tiles = [
            (row["state"], f"{row['dossiers']} · {row['t_bhtt']:,.0f} đ", row["state"] in _WELL) for row in standing
        ]
        tables = [
            ("Rejected by the insurer, or withheld by our own check", _REFUSED_COLUMNS, refused),
            ("Batches", _BATCH_COLUMNS, batches),
        ]
        tiles.append(("answers in quarantine", str(quarantined), quarantined == 0))
        return page(request, "ops_tables.html", heading="Insurance", tiles=tiles, tables=_shown_rows(tables))

    async def jobs(self, request: Request) -> Response:
        if await self._operator(request) is None:
            return signed_out(request, "operators")
        async with self._record.database.acquire() as connection:
            rows = await connection.fetch(_JOBS)
        tables = _shown_rows([("", _JOB_COLUMNS, rows)])
        return page(request, "ops_tables.html", heading="Jobs", tiles=[], tables=tables)


def _shown_rows(tables: Sequence[tuple[str, Sequence[str], Sequence[Any]]]) -> list[tuple[str, Sequence[str], Any]]:
    return [(title, columns, [[*row.values()] for row in rows]) for title, columns, rows in tables]


_WELL: Final = frozenset({"pending", "batched", "accepted"})
_REFUSED_COLUMNS: Final = ("Facility", "Episode (MA_LK)", "Attempt", "State", "Code", "What is wrong")
_BATCH_COLUMNS: Final = ("Batch", "Facility", "State", "Dossiers", "Claimed (đồng)", "maGiaoDich", "Created", "Sent")
_JOB_COLUMNS: Final = (
    "Job",
    "Kind",
    "State",
    "Owner",
    "Created",
    "Finished",
    "Chunks done",
    "Chunks",
    "Lines",
    "Refused",
    "Where they are",
    "What is wrong",
)
_DOSSIERS: Final = """
select state, count(*) as dossiers, sum(t_bhtt) as t_bhtt from sync_dossier group by state order by state
"""
_REFUSED_DOSSIERS: Final = """
select f.code, d.ma_lk, d.attempt, d.state, coalesce(d.error_code, ''), coalesce(d.error_text, '')
from sync_dossier d join facility f on f.id = d.facility_id
where d.state in ('rejected', 'withheld') order by d.id desc limit 100
"""
_BATCHES: Final = """
select b.id, f.code, b.state, b.dossier_count, b.t_bhtt, coalesce(b.ma_giao_dich, ''),
       to_char(b.created at time zone 'Asia/Ho_Chi_Minh', 'DD/MM/YYYY HH24:MI:SS'),
       to_char(b.sent at time zone 'Asia/Ho_Chi_Minh', 'DD/MM/YYYY HH24:MI:SS')
from sync_batch b join facility f on f.id = b.facility_id order by b.id desc limit 100
"""
_JOBS: Final = """
select j.id, j.kind, j.state, j.owner, to_char(j.created at time zone 'Asia/Ho_Chi_Minh', 'DD/MM/YYYY HH24:MI:SS'),
       to_char(j.finished at time zone 'Asia/Ho_Chi_Minh', 'DD/MM/YYYY HH24:MI:SS'),
       count(c.number) filter (where c.state = 'done'), count(c.number),
       sum((c.result ->> 'lines')::bigint), sum((c.result ->> 'refused')::bigint) as refused,
       case when sum((c.result ->> 'refused')::bigint) > 0 then j.params ->> 'home' || '/' || j.id end,
       max(c.error) filter (where c.state = 'failed')
from job j left join job_chunk c on c.job_id = j.id
group by j.id order by j.created desc limit 100
"""


def _number(text: str) -> int | None:
    """A ledger id of the address; None for what can be none."""
    return int(text) if LEDGER_ID.fullmatch(text) else None


def _cause(request: Request) -> tuple[str, str] | None:
    """Code and place of what is wrong that the address asks for."""
    code, at = (request.query_params.get(name, "").replace("\0", "") for name in ("code", "at"))
    return (code, at) if code else None


def city(found: list[ledger.FacilityStatus], now: datetime) -> dict[str, float]:
    """The headline figures: the age of the oldest undelivered message first."""
    oldest = min((f.oldest_waiting for f in found if f.oldest_waiting), default=now)
    return {
        "oldest_age_s": (now - oldest).total_seconds(),
        "waiting": sum(f.waiting for f in found),
        "rate": sum(f.rate_per_minute for f in found),
        "refused": sum(f.refused for f in found),
        "heard": sum(f.last_received is not None for f in found),
        "count": len(found),
    }


def _shown(facility: ledger.FacilityStatus, asked: dict[str, str], now: datetime) -> bool:
    text = f"{facility.code} {facility.name} {facility.district}".casefold()
    silent = facility.last_received is None or (now - facility.last_received).total_seconds() > SILENT_S
    shows = {"": True, "waiting": facility.waiting > 0, "refused": facility.refused > 0, "silent": silent}
    return (
        asked["q"].casefold() in text
        and asked["kind"] in ("", facility.kind)
        and asked["feed"] in ("", facility.feed)
        and shows.get(asked["show"], True)
    )
