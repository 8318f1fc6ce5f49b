"""What was extracted, what was sent, what was answered: the three must be the same dossiers and the same đồng.

Out:    Balance of the city, a line a facility; as JSON and as a table for the terminal
Rule:   extracted = accepted + rejected + pending, in dossiers and in đồng (T_BHTT); every line counts the last attempt
        of an episode that our own check let pass, once: what the insurer holds of it, so a correction does not count
        twice. Withheld attempts are told beside it: nothing of them was sent.
Told:   outdated, of the accepted: a later attempt is withheld (withdrawn, or corrected to what cannot be sent), and the
        insurer still holds, and pays, the one before
        Files: what the sealed bytes hold = what the batch says = what its dossiers say, counted anew from the bytes.
Gap:    any difference is an error and stops the batch from becoming reconciled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork
from sync.batch import unpacked
from sync.extract import CALLER
from sync.opened import opened

_ANSWERED: Final = "SELECT id FROM sync_batch WHERE state = 'answered' ORDER BY id LIMIT $1"
_BATCH: Final = """
SELECT id, state, body, sha256, dossier_count, t_bhtt FROM sync_batch WHERE id = $1 FOR UPDATE
"""
_STANDING: Final = "SELECT ma_lk, state, t_bhtt FROM sync_dossier WHERE batch_id = $1"
_RECONCILED: Final = "UPDATE sync_batch SET state = 'reconciled' WHERE id = $1"
_LINES: Final = """
WITH last AS (
  SELECT DISTINCT ON (facility_id, ma_lk) facility_id, state, t_bhtt,
    bool_or(state = 'withheld') OVER (PARTITION BY facility_id, ma_lk) AS withheld
  FROM sync_dossier ORDER BY facility_id, ma_lk, state = 'withheld', attempt DESC
)
SELECT f.code, f.name,
  count(*) FILTER (WHERE l.state <> 'withheld') AS extracted,
  coalesce(sum(l.t_bhtt) FILTER (WHERE l.state <> 'withheld'), 0) AS extracted_dong,
  count(*) FILTER (WHERE l.state = 'accepted') AS accepted,
  coalesce(sum(l.t_bhtt) FILTER (WHERE l.state = 'accepted'), 0) AS accepted_dong,
  count(*) FILTER (WHERE l.state = 'rejected') AS rejected,
  coalesce(sum(l.t_bhtt) FILTER (WHERE l.state = 'rejected'), 0) AS rejected_dong,
  count(*) FILTER (WHERE l.state IN ('pending', 'batched')) AS pending,
  coalesce(sum(l.t_bhtt) FILTER (WHERE l.state IN ('pending', 'batched')), 0) AS pending_dong,
  count(*) FILTER (WHERE l.withheld) AS withheld,
  count(*) FILTER (WHERE l.withheld AND l.state = 'accepted') AS outdated,
  coalesce(sum(l.t_bhtt) FILTER (WHERE l.withheld AND l.state = 'accepted'), 0) AS outdated_dong
FROM last l JOIN facility f ON f.id = l.facility_id GROUP BY f.code, f.name ORDER BY f.code
"""
_FILES: Final = """
SELECT f.code, b.id, b.state, b.dossier_count, b.t_bhtt, count(d.id) AS held,
  coalesce(sum(d.t_bhtt), 0) AS held_dong, count(d.id) FILTER (WHERE d.state = 'batched') AS waiting
FROM sync_batch b JOIN facility f ON f.id = b.facility_id LEFT JOIN sync_dossier d ON d.batch_id = b.id
WHERE b.state <> 'open' GROUP BY f.code, b.id ORDER BY b.id
"""
_QUARANTINED: Final = "SELECT count(*) FROM sync_quarantine"


@dataclass(frozen=True, slots=True)
class Line:
    """The balance of one facility, or of the city. Money in đồng."""

    code: str
    name: str
    extracted: int
    extracted_dong: Decimal
    accepted: int
    accepted_dong: Decimal
    rejected: int
    rejected_dong: Decimal
    pending: int
    pending_dong: Decimal
    withheld: int
    outdated: int
    outdated_dong: Decimal

    @property
    def gap(self) -> int:
        return self.extracted - self.accepted - self.rejected - self.pending

    @property
    def gap_dong(self) -> Decimal:
        return self.extracted_dong - self.accepted_dong - self.rejected_dong - self.pending_dong


@dataclass(frozen=True, slots=True)
class Balance:
    """The report. problems: every gap in words; closed when there is none."""

    facilities: tuple[Line, ...]
    city: Line
    quarantined: int
    problems: tuple[str, ...] = field(default=())

    @property
    def closed(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """For scripts: money as text, so that no digit is lost."""
        return {
            "closed": self.closed,
            "city": _line_json(self.city),
            "facilities": [_line_json(line) for line in self.facilities],
            "quarantined": self.quarantined,
            "problems": list(self.problems),
        }

    def as_text(self) -> str:
        """For the terminal: a line a facility, the city last."""
        counts = ("extracted", "accepted", "rejected", "pending", "outdated")
        head = ("facility", *(word for count in counts for word in (count, "đồng")), "withheld")
        rows = [head, *(_line_text(line) for line in (*self.facilities, self.city))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
        verdict = "closed" if self.closed else "NOT CLOSED"
        end = [f"balance {verdict}; answers in quarantine: {self.quarantined}", *self.problems]
        return "\n".join([*lines, *end])


async def reconcile(record: Record, *, limit: int = 100) -> list[str]:
    """Close answered batches whose bytes, dossiers and answers agree; the problems of those that do not."""
    async with record.reading(CALLER) as uow:
        rows = await uow.connection.fetch(_ANSWERED, limit)
    problems: list[str] = []
    for row in rows:
        problems += await _reconcile(record, row["id"])
    return problems


async def balance(record: Record) -> Balance:
    """The report as of now."""
    async with record.reading(CALLER) as uow:
        rows = await uow.connection.fetch(_LINES)
        files = await uow.connection.fetch(_FILES)
        quarantined = await uow.connection.fetchval(_QUARANTINED)
    lines = tuple(Line(**dict(row)) for row in rows)
    city = _city(lines)
    return Balance(lines, city, quarantined, (*_gaps((*lines, city)), *_file_gaps(files)))


async def _reconcile(record: Record, batch_id: int) -> list[str]:
    async def work(uow: UnitOfWork) -> list[str]:
        batch = await uow.connection.fetchrow(_BATCH, batch_id)
        if batch is None or batch["state"] != "answered":
            return []
        contents = opened(unpacked(batch["body"], batch["sha256"]))
        standing = await uow.connection.fetch(_STANDING, batch_id)
        problems = _differences(batch, {one.ma_lk: one.t_bhtt for one in contents}, standing)
        if not problems:
            await uow.connection.execute(_RECONCILED, batch_id)
        return problems

    return await record.run(CALLER, work)


def _differences(batch: Any, sent: dict[str, Decimal], standing: Sequence[Any]) -> list[str]:
    """Bytes against batch against dossiers."""
    name = f"batch {batch['id']}"
    problems: list[str] = []
    if len(sent) != batch["dossier_count"] or sum(sent.values(), Decimal(0)) != batch["t_bhtt"]:
        problems.append(f"{name}: the sealed bytes do not hold what the batch says")
    if {row["ma_lk"]: row["t_bhtt"] for row in standing} != sent:
        problems.append(f"{name}: the dossiers are not those of the sealed bytes, or not their money")
    if any(row["state"] not in {"accepted", "rejected"} for row in standing):
        problems.append(f"{name}: it is answered, but not all of its dossiers are")
    return problems


def _gaps(lines: Sequence[Line]) -> list[str]:
    return [
        f"{line.code}: {line.gap} dossiers and {line.gap_dong} đồng are neither accepted, rejected nor pending"
        for line in lines
        if line.gap or line.gap_dong
    ]


def _file_gaps(files: Sequence[Any]) -> list[str]:
    problems: list[str] = []
    for row in files:
        if row["held"] != row["dossier_count"] or row["held_dong"] != row["t_bhtt"]:
            problems.append(
                f"{row['code']}: batch {row['id']} was sealed with {row['dossier_count']} dossiers and {row['t_bhtt']}"
                f" đồng, its dossiers are {row['held']} and {row['held_dong']} đồng"
            )
        if row["state"] in {"answered", "reconciled"} and row["waiting"]:
            problems.append(f"{row['code']}: batch {row['id']} is answered, but {row['waiting']} dossiers are not")
    return problems


def _city(lines: Sequence[Line]) -> Line:
    def summed(name: str) -> Any:
        return sum((getattr(line, name) for line in lines), Decimal(0) if name.endswith("_dong") else 0)

    names = [name for name in Line.__slots__ if name not in {"code", "name"}]
    return Line("city", "", **{name: summed(name) for name in names})


def _line_json(line: Line) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value := getattr(line, name), Decimal) else value for name in Line.__slots__
    } | {"gap": line.gap, "gap_dong": str(line.gap_dong)}


def _line_text(line: Line) -> tuple[str, ...]:
    pairs = (
        (line.extracted, line.extracted_dong),
        (line.accepted, line.accepted_dong),
        (line.rejected, line.rejected_dong),
        (line.pending, line.pending_dong),
        (line.outdated, line.outdated_dong),
    )
    return (line.code, *(text for count, dong in pairs for text in (str(count), f"{dong:,.2f}")), str(line.withheld))
