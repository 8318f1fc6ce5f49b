"""What happens to everything a facility sends: keep → parse → map → submit → acknowledge. Read this first.

keep         the bytes are in the ledger, by a commit of their own, before anything else is done
parse, map   pure; what they refuse becomes AE or AR (HL7), an OperationOutcome (HTTP), and stays in the ledger
submit       resources, provenance, ledger state and answer in one transaction
acknowledge  the answer is stored with the message, so a repeat gets the same bytes
recover      what was kept and not finished (a crash between the two) is done again by a sweep

Errors:  Unavailable leaves every receive_… call: nothing may be answered then, and the sender sends again
Why:     an HL7 message that meets a fault of ours is marked failed and answered AE; the sweep tries it again, because
         the sender has done nothing wrong
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

import structlog

from adapters import claim_xml, fhir_push
from adapters.draft import Tree
from adapters.hl7v2 import ack, route
from adapters.hl7v2.message import Message
from adapters.hl7v2.parse import Envelope, parse, peek
from adapters.port import Bundle, Origin
from adapters.weave import weave
from ehr.access.policy import Action, Caller
from ehr.aside import aside, is_large
from ehr.errors import Busy, Duplicate, EhrError, Forbidden, Invalid, Issue, Unavailable
from ehr.intake import ATTEMPTS_MAX, FacilityRow, Held, Intake, Receipt, Source

log = structlog.get_logger(__name__)

UNKNOWN_SENDER: Final = "the sending facility is not registered ({code}); ask the city to register its code"
UNREADABLE: Final = "?"
ATTEMPTS_EVER: Final = 2**15 - 1
"""More than any message has failed."""


class Pipeline:
    """One for a process; the doors (MLLP listener, HTTP routes, recovery sweep) share it."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._turns: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    async def receive_hl7(self, block: bytes, peer: str, *, facility_code: str | None = None) -> bytes:
        """One MLLP block → its ACK. facility_code: the facility the listener is bound to, if it is."""
        envelope = peek(block)
        facility = await self._sender(envelope, facility_code)
        source = _hl7_source(block, envelope, facility)
        receipt = await self._intake.keep(block, source)
        if receipt.answer is not None:
            return receipt.answer
        log.info(
            "message kept", message_id=receipt.message_id, kind=source.kind, facility=source.facility_code, host=peer
        )
        return await self._answer_hl7(block, receipt, facility)

    async def broke(self, block: bytes, error: Exception, *, facility_code: str | None = None) -> bytes | None:
        """A fault of ours met a message that is kept: mark it for the sweep, and tell the sender."""
        envelope = peek(block)
        facility = await self._sender(envelope, facility_code)
        receipt = await self._intake.keep(block, _hl7_source(block, envelope, facility))
        if receipt.answer is not None:
            return receipt.answer
        issue = Issue("exception", f"a fault of this system ({type(error).__name__}); the message is kept")
        await self._intake.fail(receipt, [issue])
        return ack.refuse(
            None, "AE", [issue], number=receipt.message_id, now=self._intake.clock.now(), control_id=envelope.control_id
        )

    async def receive_bundle(self, body: bytes, caller: Caller, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """A transaction Bundle of a facility that speaks FHIR: ledger first, then the transaction."""
        facility = await self._intake.facility_of(caller.facility_id)
        _demand(caller, await aside(is_large(body), fhir_push.asked, body))
        control_id = await aside(is_large(body), fhir_push.control_id, body, headers)
        receipt = await self._intake.keep(body, Source(facility.id, facility.code, "fhir", "transaction", control_id))
        if receipt.answer is not None:
            return fhir_push.unpacked(receipt.answer)
        return await self._answer_http(receipt, lambda: _pushed(body))

    async def receive_claim_xml(self, body: bytes, caller: Caller) -> tuple[int, bytes]:
        """A GIAMDINHHS envelope: ledger first, then every dossier of it in one transaction."""
        facility = await self._intake.facility_of(caller.facility_id)
        _demand(caller, claim_xml.ASKED)
        source = Source(facility.id, facility.code, "claim_xml", "GIAMDINHHS", claim_xml.control_id(body))
        receipt = await self._intake.keep(body, source)
        if receipt.state == "applied" and (since := await self._replaced_since(body, facility)):
            # the sender goes back to this file
            receipt = await self._intake.keep(body, replace(source, control_id=f"{source.control_id}@{since}"))
        if receipt.answer is not None:
            return fhir_push.unpacked(receipt.answer)
        return await self._answer_http(receipt, lambda: self._dossiers(body, facility, receipt))

    async def recover(self, older_than_s: float = 60.0) -> int:
        """Finish what was kept and never finished; how many messages were brought to an end."""
        finished, _ = await self._finish(older_than_s, ATTEMPTS_MAX)
        return finished

    async def replay(self) -> tuple[int, int]:
        """The same for every one of them now, also for those the sweep has given up; (finished, failed again)."""
        return await self._finish(0.0, ATTEMPTS_EVER)

    async def _finish(self, older_than_s: float, attempts_max: int) -> tuple[int, int]:
        """(finished, not). What others hold up is left to the next time, and holds up no other message itself."""
        finished = failed = after = 0
        while page := await self._intake.unfinished(older_than_s, attempts_max=attempts_max, after=after):
            for receipt, raw in page:
                after = receipt.message_id
                try:
                    done = await self._finished(receipt, raw)
                except Busy:
                    log.warning("message is held up", message_id=receipt.message_id)
                    done = False
                finished, failed = finished + done, failed + (not done)
        return finished, failed

    async def _finished(self, receipt: Receipt, raw: bytes) -> bool:
        try:
            await self._again(receipt, raw)
        except Unavailable:
            raise
        except Exception as error:
            # The edge of a task: one message that meets a fault of ours must not hold up the others.
            log.exception("recovery failed", message_id=receipt.message_id)
            await self._intake.fail(receipt, [Issue("exception", f"a fault of this system ({type(error).__name__})")])
            return False
        return True

    async def _again(self, receipt: Receipt, raw: bytes) -> None:
        source = receipt.source
        facility = await self._intake.facility(source.facility_code) if source.facility_id else None
        match source.channel:
            case "mllp":
                await self._answer_hl7(raw, receipt, facility)
            case "fhir":
                await self._answer_http(receipt, lambda: _pushed(raw))
            case "claim_xml":
                known = await self._intake.facility_of(source.facility_id)
                await self._answer_http(receipt, lambda: self._dossiers(raw, known, receipt))
            case _:
                raise AssertionError(f"no door writes the channel {source.channel}")

    async def _sender(self, envelope: Envelope, bound_to: str | None) -> FacilityRow | None:
        """MSH-4 names the facility; a bound listener speaks for those that do not name themselves."""
        named = await self._intake.facility(envelope.facility) if envelope.facility else None
        if bound_to is not None and (named is None or named.code == bound_to):
            named = await self._intake.facility(bound_to)
        # one that is closed is as unknown: registered again, it may send the same message again
        return named if named is not None and named.active else None

    async def _answer_hl7(self, block: bytes, receipt: Receipt, facility: FacilityRow | None) -> bytes:
        message: Message | None = None
        try:
            message = await aside(is_large(block), parse, block)
            if facility is None:
                raise Forbidden(UNKNOWN_SENDER.format(code=peek(block).facility or "none named"), at="MSH-4")
            origin = _origin(facility, receipt)
            mapper = route.mapper(message)
            bundle = _settled(await aside(is_large(block), mapper, message, origin))
            answer = ack.accept(message, number=receipt.message_id, now=self._intake.clock.now())
            return await self._submit_woven(bundle, receipt, facility, answer)
        except Unavailable:
            raise
        except EhrError as error:
            answer = ack.refuse(
                message,
                "AE" if error.ack == "AA" else error.ack,
                error.issues,
                number=receipt.message_id,
                now=self._intake.clock.now(),
                control_id="" if receipt.source.control_id.startswith("sha256:") else receipt.source.control_id,
            )
            await self._intake.refuse(receipt, error.issues, answer)
        return await self._stored(receipt)

    async def _submit_woven(self, bundle: Bundle, receipt: Receipt, facility: FacilityRow, answer: bytes) -> bytes:
        """Weave with what the record holds, while it is locked; the answer that stands."""

        def woven(held: Mapping[int, Held]) -> Mapping[int, Tree]:
            resources, late = weave(bundle, held)
            if late:
                log.info("message came late", message_id=receipt.message_id, count=late)
            return resources

        async with self._turn(facility.id, bundle):
            response = await self._intake.submit(bundle, receipt, answer=answer, weave=woven)
        return answer if "entry" in response else await self._stored(receipt)

    def _turn(self, facility_id: int, bundle: Bundle) -> asyncio.Lock:
        """Messages of one facility about one patient go one after another."""
        patient = next((e["fullUrl"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient"), "")
        key = (facility_id, patient)
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = asyncio.Lock()
        return turn

    async def _dossiers(self, body: bytes, facility: FacilityRow, receipt: Receipt) -> Bundle:
        """The Bundle of an envelope, with the removal of what its earlier file had and it has not."""
        links = await aside(is_large(body), claim_xml.episodes_of, body)
        last = await claim_xml.last_files(self._intake, facility, links)
        later = {link for link, (number, _) in last.items() if number > receipt.message_id}
        if later:
            log.info("message came late", message_id=receipt.message_id, count=len(later))
        if later.issuperset(links):
            raise Duplicate("a later file of the same episode was taken before this one", at="XML1.MA_LK")
        bundle = _settled(await aside(is_large(body), claim_xml.bundle_of, body, _origin(facility, receipt), later))
        bundle["entry"] += await claim_xml.replaced(self._intake, facility, bundle)
        return bundle

    async def _replaced_since(self, body: bytes, facility: FacilityRow) -> int:
        """The newest file that another than this one wrote an episode of it by; 0 where there is none."""
        links = await aside(is_large(body), claim_xml.episodes_of, body)
        last = await claim_xml.last_files(self._intake, facility, links)
        own = hashlib.sha256(body).digest()
        return max((number for number, sha256 in last.values() if sha256 != own), default=0)

    async def _answer_http(self, receipt: Receipt, read: Callable[[], Awaitable[Bundle]]) -> tuple[int, bytes]:
        made: list[bytes] = []

        def answer(response: Bundle) -> bytes:
            made.append(fhir_push.packed(200, response))
            return made[-1]

        try:
            response = await self._intake.submit(await read(), receipt, answer=answer)
            if "entry" in response:
                return fhir_push.unpacked(made[-1])
        except Unavailable:
            raise
        except EhrError as error:
            await self._intake.refuse(
                receipt, error.issues, fhir_push.packed(error.http_status, fhir_push.outcome(error))
            )
        return fhir_push.unpacked(await self._stored(receipt))

    async def _stored(self, receipt: Receipt) -> bytes:
        """The answer the ledger holds: the one every repeat gets, whoever finished the message first."""
        _, answer = await self._intake.answer_of(receipt)
        assert answer is not None, "a finished message has an answer"
        return answer


async def _pushed(body: bytes) -> Bundle:
    return await aside(is_large(body), fhir_push.bundle_of, body)


def _demand(caller: Caller, asked: Iterable[tuple[str, Action]]) -> None:
    """Refuse what a token does not grant before it is kept: what is kept is applied with all rights of the facility."""
    for type_name, action in sorted(asked):
        if not caller.grants.allow(type_name, action):
            raise Forbidden(f"the token does not grant {action!r} on {type_name}")


def _hl7_source(block: bytes, envelope: Envelope, facility: FacilityRow | None) -> Source:
    control_id = envelope.control_id
    if control_id == UNREADABLE:
        control_id = "sha256:" + hashlib.sha256(block).hexdigest()
    return Source(facility.id if facility else 0, facility.code if facility else "", "mllp", envelope.kind, control_id)


def _origin(facility: FacilityRow, receipt: Receipt) -> Origin:
    organization = f"Organization/{facility.organization_id}" if facility.organization_id else None
    return Origin(facility.code, receipt.source.control_id, organization, receipt.received)


def _settled(mapped: Bundle | list[Issue]) -> Bundle:
    if isinstance(mapped, list):
        raise Invalid("the content cannot be mapped", issues=mapped)
    return mapped
