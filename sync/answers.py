"""What the insurer says of a file → standing of its dossiers, and a ClaimResponse for each.

In:      {maGiaoDich, trangThai, tongSoHoSo, soHoSoTiepNhan, soHoSoTuChoi, tongTienDeNghi,
          hoSo: [{maLK, ketQua "1" taken over | "0" refused, tBHTT, maLoi, moTaLoi}]}
Out:     applied, repeated, waiting, or quarantined with its reason
Rules:   an answer is checked whole before any of it is applied. What was answered once stays: the same answer again
         changes nothing, a different one is quarantined. A part of the dossiers may be answered now and the rest
         later. An answer for a file we do not know, with dossiers that are not in it, or whose numbers contradict
         themselves or what was sent, goes to quarantine and an operator.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

import orjson

from ehr.fhir.r4 import TYPE_IDS
from ehr.store import gate
from ehr.store.record import Record
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork
from sync.batch import locked, write_claims
from sync.claim import response
from sync.extract import CALLER
from sync.read import tree_of

Outcome = Literal["applied", "repeated", "waiting", "quarantined"]
ACCEPTED: Final = "1"
REFUSED: Final = "0"
IN_WORK: Final = "DANG_XU_LY"

_BATCH: Final = """
SELECT b.id, b.facility_id, b.state, b.answer FROM sync_batch b WHERE b.ma_giao_dich = $1
  AND ($2::int IS NULL OR b.facility_id = $2) FOR UPDATE OF b
"""
_DOSSIERS: Final = """
SELECT id, ma_lk, state, t_bhtt, claim_id FROM sync_dossier WHERE batch_id = $1 ORDER BY ma_lk FOR UPDATE
"""
_CLAIMS: Final = """
SELECT r.id, r.body FROM unnest($2::text[]) AS w(id) JOIN resource r ON r.type_id = $1 AND r.id = w.id
"""
_STAND: Final = """
UPDATE sync_dossier SET state = $2, error_code = $3, error_text = $4, claim_response_id = $5 WHERE id = $1
"""
_ANSWERED: Final = """
UPDATE sync_batch SET answer = $2::text::jsonb, answered = $3,
  state = CASE WHEN state = 'sent' AND $4 THEN 'answered' ELSE state END WHERE id = $1
"""
_REFUSED_WHOLE: Final = """
UPDATE sync_batch SET state = 'answered', sent = COALESCE(sent, $2), answered = $2, attempts = attempts + 1,
  answer = $3::text::jsonb WHERE id = $1
"""
_QUARANTINE: Final = """
INSERT INTO sync_quarantine (facility_id, ma_giao_dich, reason, sha256, answer) VALUES ($1, $2, $3, $4, $5::text::jsonb)
ON CONFLICT (ma_giao_dich, sha256) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The insurer's word on one dossier."""

    ma_lk: str
    accepted: bool
    t_bhtt: Decimal
    code: str
    text: str

    @property
    def state(self) -> str:
        return "accepted" if self.accepted else "rejected"


class Contradiction(Exception):
    """An answer that cannot be true; its text is the reason it goes to quarantine."""


async def apply(record: Record, answer: Mapping[str, Any], *, facility_id: int | None = None) -> Outcome:
    """Take an answer. facility_id: whose account it came through; an answer for another facility's file is unknown."""
    answer = _storable(answer)
    if answer.get("trangThai") == IN_WORK and not answer.get("hoSo"):
        return "waiting"

    async def work(uow: UnitOfWork) -> Outcome:
        transaction = str(answer.get("maGiaoDich") or "")
        batch = await uow.connection.fetchrow(_BATCH, transaction, facility_id)
        try:
            if batch is None:
                raise Contradiction("no file was sent under this transaction number")
            dossiers = await uow.connection.fetch(_DOSSIERS, batch["id"])
            verdicts = _verdicts(answer)
            fresh = _fresh(verdicts, dossiers)
        except Contradiction as error:
            await _quarantine(uow, answer, facility_id, str(error))
            return "quarantined"
        if not fresh:
            return "repeated"
        await _stand(uow, fresh, transaction)
        done = {row["id"] for row, _ in fresh}
        complete = all(row["state"] != "batched" or row["id"] in done for row in dossiers)
        await uow.connection.execute(_ANSWERED, batch["id"], _json(answer), uow.now, complete)
        return "applied"

    return await record.run(CALLER, work)


async def refuse_whole(record: Record, batch_id: int, code: str, text: str) -> None:
    """The gateway refused a file as such: each of its dossiers is rejected with that reason."""

    async def work(uow: UnitOfWork) -> None:
        batch = await locked(uow, batch_id)
        if batch is None or batch["state"] != "sealed":
            return
        await write_claims(uow, batch)
        rows = await uow.connection.fetch(_DOSSIERS, batch_id)
        verdicts = [(row, Verdict(row["ma_lk"], False, row["t_bhtt"], code, text)) for row in rows]
        await _stand(uow, verdicts, f"refused-{batch_id}")
        answer = {"maKetQua": code, "thongDiep": text}
        await uow.connection.execute(_REFUSED_WHOLE, batch_id, uow.now, _json(answer))

    await record.run(CALLER, work)


def _verdicts(answer: Mapping[str, Any]) -> dict[str, Verdict]:
    """Read the answer's own lines and hold them against its own totals."""
    lines = answer.get("hoSo")
    if not isinstance(lines, list) or not all(isinstance(line, Mapping) for line in lines):
        raise Contradiction("the answer has no list of dossiers")
    verdicts: dict[str, Verdict] = {}
    for line in lines:
        result = str(line.get("ketQua", ""))
        if result not in {ACCEPTED, REFUSED}:
            raise Contradiction("a dossier is neither taken over nor refused")
        verdict = Verdict(
            str(line.get("maLK", "")),
            result == ACCEPTED,
            _number(line.get("tBHTT")),
            str(line.get("maLoi") or ""),
            str(line.get("moTaLoi") or ""),
        )
        if verdicts.setdefault(verdict.ma_lk, verdict) != verdict:
            raise Contradiction("one dossier is answered in two ways")
    accepted = sum(1 for verdict in verdicts.values() if verdict.accepted)
    counts = {
        "tongSoHoSo": len(verdicts),
        "soHoSoTiepNhan": accepted,
        "soHoSoTuChoi": len(verdicts) - accepted,
    }
    for name, counted in counts.items():
        if name in answer and _number(answer[name]) != counted:
            raise Contradiction(f"{name} is not the number of such dossiers in the answer")
    asked = sum((verdict.t_bhtt for verdict in verdicts.values()), Decimal(0))
    if "tongTienDeNghi" in answer and _number(answer["tongTienDeNghi"]) != asked:
        raise Contradiction("tongTienDeNghi is not the sum of the dossiers in the answer")
    return verdicts


def _fresh(verdicts: Mapping[str, Verdict], dossiers: list[Any]) -> list[tuple[Any, Verdict]]:
    """The dossiers that have no answer yet, with theirs; every contradiction with what was sent or answered."""
    known = {row["ma_lk"]: row for row in dossiers}
    fresh: list[tuple[Any, Verdict]] = []
    for ma_lk, verdict in verdicts.items():
        row = known.get(ma_lk)
        if row is None:
            raise Contradiction("a dossier is answered that was not in the file")
        if row["t_bhtt"] != verdict.t_bhtt:
            raise Contradiction("T_BHTT of a dossier is not what was sent")
        if row["state"] == "batched":
            fresh.append((row, verdict))
        elif row["state"] != verdict.state:
            raise Contradiction(f"a dossier that was {row['state']} is now {verdict.state}")
    return fresh


async def _stand(uow: UnitOfWork, verdicts: Sequence[tuple[Any, Verdict]], transaction: str) -> None:
    """Note the verdicts and write a ClaimResponse for each dossier that has a Claim."""
    ids = [row["claim_id"] for row, _ in verdicts if row["claim_id"] is not None]
    held = await uow.connection.fetch(_CLAIMS, TYPE_IDS["Claim"], ids)
    claims = {row["id"]: tree_of(uow, row["body"]) for row in held}
    writes: list[Write] = []
    responded: list[int] = []
    for row, verdict in verdicts:
        if row["claim_id"] not in claims:
            continue  # no Claim was written for it, or it was deleted since
        tree = response(
            claims[row["claim_id"]],
            transaction=transaction,
            created=uow.now,
            paid=verdict.t_bhtt if verdict.accepted else None,
            code=verdict.code or "0",
            text=verdict.text,
        )
        gate.check("ClaimResponse", tree)
        writes.append(Write("C", "ClaimResponse", tree=tree))
        responded.append(row["id"])
    written = await uow.resources.apply(writes)
    responses = {of: one.version.id for of, one in zip(responded, written, strict=True) if one.version}
    for row, verdict in verdicts:
        code, text = (None, None) if verdict.accepted else (verdict.code or "0", verdict.text)
        await uow.connection.execute(_STAND, row["id"], verdict.state, code, text, responses.get(row["id"]))


async def _quarantine(uow: UnitOfWork, answer: Mapping[str, Any], facility_id: int | None, reason: str) -> None:
    text = _json(answer)
    sha256 = hashlib.sha256(text.encode()).digest()
    transaction = str(answer.get("maGiaoDich") or "")
    await uow.connection.execute(_QUARANTINE, facility_id, transaction, reason, sha256, text)


def _json(answer: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(answer), option=orjson.OPT_SORT_KEYS).decode()


def _storable(value: Any) -> Any:
    """Without what PostgreSQL's text or JSON cannot hold: NUL, half surrogates, whole numbers without end."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_storable(name): _storable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_storable(part) for part in value]
    return str(value) if type(value) is int and value.bit_length() > 63 else value


def _number(value: Any) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation as error:
        raise Contradiction("a number of the answer is none") from error
    if not number.is_finite():
        raise Contradiction("a number of the answer is none")
    return number
