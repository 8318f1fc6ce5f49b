"""Batches on a real database: every step may be the last one before a crash, and the file never changes."""

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from ehr.fhir.r4 import TYPE_IDS
from ehr.store.record import Record
from sync import answers, batch
from sync.extract import CALLER, extract
from sync.gateway import Taken
from sync.opened import opened
from sync.reconcile import balance, reconcile
from sync.resend import Which, resend

if TYPE_CHECKING:
    from tests.insurance.conftest import Episodes


async def rows(record: Record, sql: str, *args: Any) -> list[dict[str, Any]]:
    async with record.database.acquire() as connection:
        return [dict(row) for row in await connection.fetch(sql, *args)]


async def dossiers(record: Record) -> list[dict[str, Any]]:
    return await rows(record, "SELECT * FROM sync_dossier ORDER BY facility_id, ma_lk, attempt")


async def resources(record: Record, type_name: str) -> int:
    return len(await rows(record, "SELECT 1 FROM resource WHERE type_id = $1", TYPE_IDS[type_name]))


async def sealed_batch(record: Record) -> tuple[int, batch.Sealed]:
    while await extract(record):
        pass
    (batch_id,) = await batch.open_batches(record)
    assert await batch.seal(record, batch_id)
    found = await batch.sealed(record, batch_id)
    assert found is not None
    return batch_id, found


def answer_to(found: batch.Sealed, transaction: str = "T1", *, refuse: frozenset[str] = frozenset()) -> dict[str, Any]:
    contents = opened(found.body)
    return {
        "maGiaoDich": transaction,
        "trangThai": "HOAN_THANH",
        "tongSoHoSo": len(contents),
        "soHoSoTiepNhan": sum(one.ma_lk not in refuse for one in contents),
        "soHoSoTuChoi": sum(one.ma_lk in refuse for one in contents),
        "tongTienDeNghi": str(sum((one.t_bhtt for one in contents), Decimal(0))),
        "hoSo": [
            {
                "maLK": one.ma_lk,
                "ketQua": "0" if one.ma_lk in refuse else "1",
                "tBHTT": str(one.t_bhtt),
                "maLoi": "GIA_THUOC" if one.ma_lk in refuse else "",
                "moTaLoi": "Giá cao hơn giá được duyệt" if one.ma_lk in refuse else "",
            }
            for one in contents
        ],
    }


async def test_only_finished_insured_episodes_are_extracted(record: Record, episodes: "Episodes") -> None:
    await episodes.write(record, episodes.outpatient(number=1))
    await episodes.write(record, episodes.outpatient(number=2, status="in-progress"))
    uninsured = episodes.outpatient(number=3)
    await episodes.write(record, uninsured, [t for t in episodes.trees(uninsured) if t["resourceType"] != "Coverage"])
    assert await extract(record) > 0
    assert await extract(record) == 0
    assert [row["ma_lk"] for row in await dossiers(record)] == ["01Z01.000001"]
    await episodes.write(record, episodes.outpatient(number=2))
    await extract(record)
    assert [row["ma_lk"] for row in await dossiers(record)] == ["01Z01.000001", "01Z01.000002"]


async def test_a_sealed_file_is_byte_for_byte_the_same_whatever_happens(record: Record, episodes: "Episodes") -> None:
    """A crash after each step: what ran before stays, running the step again changes nothing."""
    await episodes.write(record, episodes.outpatient(number=1))
    await episodes.write(record, episodes.inpatient(number=2))
    await extract(record)
    assert await extract(record) == 0  # crash after extract: nothing twice
    (batch_id,) = await batch.open_batches(record)
    assert await batch.open_batches(record) == []  # crash after open
    assert await batch.seal(record, batch_id)
    first = await batch.sealed(record, batch_id)
    assert not await batch.seal(record, batch_id)  # crash after seal: it is not written again
    assert first is not None
    (stored,) = await rows(record, "SELECT * FROM sync_batch")
    assert stored["sha256"] == hashlib.sha256(first.body).digest()
    assert stored["dossier_count"] == 2
    # the record moves on between sealing and sending
    await episodes.write(record, episodes.outpatient(number=1, weight="57.0"))
    again = await batch.sealed(record, batch_id)
    assert again == first
    # the gateway has it, but we crashed before noting it: the same bytes go again, then are noted once
    await batch.note_sent(record, batch_id, Taken("T1", "20261123150000"))
    await batch.note_sent(record, batch_id, Taken("T2", "20261123150100"))
    assert await batch.sealed(record, batch_id) is None
    (stored,) = await rows(record, "SELECT * FROM sync_batch")
    assert (stored["state"], stored["ma_giao_dich"]) == ("sent", "T1")
    assert await resources(record, "Claim") == 2
    # answered, twice; a crash between answer and balance
    assert await answers.apply(record, answer_to(first)) == "applied"
    assert await answers.apply(record, answer_to(first)) == "repeated"
    assert await resources(record, "ClaimResponse") == 2
    assert await reconcile(record) == []
    assert await reconcile(record) == []
    (stored,) = await rows(record, "SELECT * FROM sync_batch")
    assert stored["state"] == "reconciled"
    assert (await balance(record)).closed


async def test_a_file_that_was_touched_is_never_sent(record: Record, episodes: "Episodes") -> None:
    await episodes.write(record, episodes.outpatient())
    batch_id, _ = await sealed_batch(record)
    await rows(record, "UPDATE sync_batch SET sha256 = decode(repeat('00', 32), 'hex')")
    with pytest.raises(batch.Tampered):
        await batch.sealed(record, batch_id)


async def test_what_cannot_be_sent_waits_with_its_reason_and_goes_when_it_is_mended(
    record: Record, episodes: "Episodes"
) -> None:
    await episodes.write(record, episodes.outpatient(weight=None))
    while await extract(record):
        pass
    (batch_id,) = await batch.open_batches(record)
    assert not await batch.seal(record, batch_id)
    (row,) = await dossiers(record)
    assert (row["state"], row["error_code"]) == ("withheld", "required")
    assert row["error_text"] == "XML1.CAN_NANG: XML1.CAN_NANG must be filled"
    assert await rows(record, "SELECT 1 FROM sync_batch") == []
    await episodes.write(record, episodes.outpatient(weight="56.5"))
    _, found = await sealed_batch(record)
    assert [one.ma_lk for one in opened(found.body)] == ["01Z01.000001"]


async def test_a_correction_is_a_new_attempt_and_counts_once(record: Record, episodes: "Episodes") -> None:
    await episodes.write(record, episodes.outpatient())
    batch_id, found = await sealed_batch(record)
    await batch.note_sent(record, batch_id, Taken("T1", ""))
    await answers.apply(record, answer_to(found))
    first = (await balance(record)).city
    # the same content again is no correction
    await episodes.write(record, episodes.outpatient())
    while await extract(record):
        pass
    assert await batch.open_batches(record) == []
    # another price is
    changed = episodes.outpatient(items=(episodes.EXAMINATION, episodes.LABORATORY))
    erased = [tree for tree in episodes.trees(episodes.outpatient()) if tree["id"].startswith("i2-")]
    for tree in erased:
        tree["status"] = "entered-in-error"
    await episodes.write(record, changed, erased)
    second_id, second = await sealed_batch(record)
    await batch.note_sent(record, second_id, Taken("T2", ""))
    assert await answers.apply(record, answer_to(second, "T2")) == "applied"
    last = (await balance(record)).city
    assert (first.accepted, last.accepted, last.extracted) == (1, 1, 1)
    assert first.accepted_dong - last.accepted_dong == Decimal("23010.00")
    old, new = await dossiers(record)
    assert (old["attempt"], new["attempt"]) == (1, 2)
    async with record.reading(CALLER) as uow:
        claim = await uow.resources.read("Claim", new["claim_id"])
    assert claim.body is not None
    assert f'"Claim/{old["claim_id"]}"'.encode() in claim.body
    assert await reconcile(record) == []
    assert (await balance(record)).closed


async def test_a_change_that_changes_nothing_in_the_claim_is_not_sent(record: Record, episodes: "Episodes") -> None:
    await episodes.write(record, episodes.outpatient())
    batch_id, found = await sealed_batch(record)
    await batch.note_sent(record, batch_id, Taken("T1", ""))
    await answers.apply(record, answer_to(found))
    (encounter,) = [t for t in episodes.trees(episodes.outpatient()) if t["resourceType"] == "Encounter"]
    encounter["priority"] = {"text": "thường"}
    await episodes.write(record, episodes.outpatient(), [encounter])
    while await extract(record):
        pass
    (second_id,) = await batch.open_batches(record)
    assert not await batch.seal(record, second_id)
    assert len(await dossiers(record)) == 1


async def test_an_episode_withdrawn_after_it_was_claimed_is_shown_to_the_operator(
    record: Record, episodes: "Episodes"
) -> None:
    await episodes.write(record, episodes.outpatient())
    batch_id, found = await sealed_batch(record)
    await batch.note_sent(record, batch_id, Taken("T1", ""))
    await answers.apply(record, answer_to(found))
    await episodes.write(record, episodes.outpatient(status="cancelled"))
    while await extract(record):
        pass
    (second_id,) = await batch.open_batches(record)
    assert not await batch.seal(record, second_id)
    _, withdrawn = await dossiers(record)
    assert withdrawn["state"] == "withheld"
    assert "insurer still holds" in withdrawn["error_text"]
    # cancelled by mistake: as it was, the first attempt stands again
    await episodes.write(record, episodes.outpatient())
    while await extract(record):
        pass
    (third_id,) = await batch.open_batches(record)
    assert not await batch.seal(record, third_id)
    assert [row["state"] for row in await dossiers(record)] == ["accepted"]


async def test_answers_that_cannot_be_true_go_to_quarantine(record: Record, episodes: "Episodes") -> None:
    await episodes.write(record, episodes.outpatient(number=1))
    await episodes.write(record, episodes.outpatient(number=2))
    batch_id, found = await sealed_batch(record)
    await batch.note_sent(record, batch_id, Taken("T1", ""))
    right = answer_to(found, refuse=frozenset({"01Z01.000002"}))
    wrong: list[tuple[dict[str, Any], str]] = [
        (right | {"maGiaoDich": "T9"}, "no file"),
        (right | {"tongTienDeNghi": "1"}, "tongTienDeNghi"),
        (right | {"soHoSoTiepNhan": 2}, "soHoSoTiepNhan"),
        (right | {"hoSo": [*right["hoSo"], right["hoSo"][0] | {"ketQua": "0"}]}, "two ways"),
        ({"maGiaoDich": "T1", "hoSo": [right["hoSo"][0] | {"maLK": "another"}]}, "not in the file"),
        ({"maGiaoDich": "T1", "hoSo": [right["hoSo"][0] | {"tBHTT": "5"}]}, "not what was sent"),
    ]
    for answer, _ in wrong:
        assert await answers.apply(record, answer) == "quarantined"
        assert await answers.apply(record, answer) == "quarantined"
    kept = await rows(record, "SELECT reason FROM sync_quarantine ORDER BY id")
    assert len(kept) == len(wrong)
    for row, (_, reason) in zip(kept, wrong, strict=True):
        assert reason in row["reason"]
    assert {row["state"] for row in await dossiers(record)} == {"batched"}
    # a part now, the rest later; then what contradicts a verdict already given
    assert await answers.apply(record, {"maGiaoDich": "T1", "hoSo": right["hoSo"][:1]}) == "applied"
    assert (await rows(record, "SELECT state FROM sync_batch"))[0]["state"] == "sent"
    assert await answers.apply(record, right) == "applied"
    assert await answers.apply(record, answer_to(found)) == "quarantined"
    assert [row["state"] for row in await dossiers(record)] == ["accepted", "rejected"]
    refused = (await dossiers(record))[1]
    assert (refused["error_code"], refused["error_text"]) == ("GIA_THUOC", "Giá cao hơn giá được duyệt")
    assert await reconcile(record) == []
    line = (await balance(record)).city
    assert (line.extracted, line.accepted, line.rejected, line.pending) == (2, 1, 1, 0)


async def test_an_answer_through_another_facilitys_account_is_unknown(record: Record, episodes: "Episodes") -> None:
    await episodes.write(record, episodes.outpatient())
    batch_id, found = await sealed_batch(record)
    await batch.note_sent(record, batch_id, Taken("T1", ""))
    other = await episodes.facility(record, "01Z02")
    assert await answers.apply(record, answer_to(found), facility_id=other) == "quarantined"


async def test_the_balance_sees_a_gap(record: Record, episodes: "Episodes") -> None:
    await episodes.write(record, episodes.outpatient())
    batch_id, found = await sealed_batch(record)
    await batch.note_sent(record, batch_id, Taken("T1", ""))
    await answers.apply(record, answer_to(found))
    await rows(record, "UPDATE sync_dossier SET t_bhtt = t_bhtt + 1")
    problems = await reconcile(record)
    assert problems == [f"batch {batch_id}: the dossiers are not those of the sealed bytes, or not their money"]
    report = await balance(record)
    assert not report.closed
    assert "NOT CLOSED" in report.as_text()
    assert report.as_json()["problems"] == list(report.problems)


async def test_sealing_is_in_the_audit_of_the_patient(record: Record, episodes: "Episodes") -> None:
    await episodes.write(record, episodes.outpatient())
    await sealed_batch(record)
    (row,) = await rows(record, "SELECT * FROM audit WHERE action = 'E'")
    assert row["shard"] is not None
    assert "claim-to-insurer" in row["detail"]
    assert row["actor"] == "system/insurance claim"


@pytest.mark.parametrize("lost", ["Encounter", "Coverage"])
async def test_an_episode_deleted_after_it_was_claimed_is_shown_to_the_operator(
    record: Record, episodes: "Episodes", lost: str
) -> None:
    """Deleted itself, or no insured one any more: the insurer holds it all the same."""
    visit = episodes.outpatient()
    await episodes.write(record, visit)
    batch_id, found = await sealed_batch(record)
    await batch.note_sent(record, batch_id, Taken("T1", ""))
    await answers.apply(record, answer_to(found))
    (gone,) = (tree["id"] for tree in episodes.trees(visit) if tree["resourceType"] == lost)
    await record.run(CALLER, lambda uow: uow.resources.delete(lost, gone))
    while await extract(record):
        pass
    (second_id,) = await batch.open_batches(record)
    assert not await batch.seal(record, second_id)
    _, withdrawn = await dossiers(record)
    assert withdrawn["state"] == "withheld"
    assert "insurer still holds" in withdrawn["error_text"]


@pytest.mark.parametrize(
    "change",
    [{"tBHTT": "sNaN"}, {"tBHTT": "Infinity"}, {"tBHTT": None}, {"maLK": None}, {"moTaLoi": "a\0b", "ketQua": "0"}],
    ids=["signalling NaN", "infinite", "no money", "no number", "NUL"],
)
async def test_strange_answers_are_taken_or_kept_and_never_stop_a_round(
    record: Record, episodes: "Episodes", change: dict[str, Any]
) -> None:
    await episodes.write(record, episodes.outpatient())
    batch_id, found = await sealed_batch(record)
    await batch.note_sent(record, batch_id, Taken("T1", ""))
    right = answer_to(found)
    line = right["hoSo"][0] | change
    assert await answers.apply(record, {"maGiaoDich": "T1", "hoSo": [line]}) in {"applied", "quarantined"}
    assert await answers.apply(record, {"maGiaoDich": "T1", "ghiChu": "\0", "hoSo": [{}]}) == "quarantined"


async def test_what_was_refused_is_sent_again_when_somebody_asks(record: Record, episodes: "Episodes") -> None:
    """The insurer mended its list: nothing changed here, and the same dossier must go once more."""
    for number in (1, 2):
        await episodes.write(record, episodes.outpatient(number=number))
    batch_id, found = await sealed_batch(record)
    await batch.note_sent(record, batch_id, Taken("T1", ""))
    await answers.apply(record, answer_to(found, refuse=frozenset({"01Z01.000002"})))
    assert await resend(record, Which(error_code="another")) == 0
    assert await resend(record, Which(ma_lk="01Z01.000001")) == 0, "it was accepted"
    assert await resend(record, Which("01Z01", error_code="GIA_THUOC")) == 1
    assert await resend(record, Which()) == 0, "it waits already"
    assert (await balance(record)).city.pending == 1
    second_id, again = await sealed_batch(record)
    assert [one.ma_lk for one in opened(again.body)] == ["01Z01.000002"]
    await batch.note_sent(record, second_id, Taken("T2", ""))
    assert await answers.apply(record, answer_to(again, "T2")) == "applied"
    line = (await balance(record)).city
    assert (line.extracted, line.accepted, line.rejected, line.pending) == (2, 2, 0, 0)
    assert [row["error_code"] for row in await dossiers(record)] == [None, "GIA_THUOC", None]


async def test_what_was_withheld_is_checked_anew_when_somebody_asks(record: Record, episodes: "Episodes") -> None:
    await episodes.write(record, episodes.outpatient(weight=None))
    while await extract(record):
        pass
    (batch_id,) = await batch.open_batches(record)
    assert not await batch.seal(record, batch_id)
    assert [row["state"] for row in await dossiers(record)] == ["withheld"]
    assert await resend(record, Which()) == 1
    (again_id,) = await batch.open_batches(record)
    assert not await batch.seal(record, again_id)
    (row,) = await dossiers(record)
    assert (row["state"], row["attempt"]) == ("withheld", 1)
