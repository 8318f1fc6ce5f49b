"""What the simulated gateway holds: tokens, files as received, and for each episode its latest dossier."""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from ehr.clock import ICT, Clock
from ehr.errors import Malformed
from sync import accounts
from sync.gateway import password_hash
from sync.gateway_sim.faults import Faults
from sync.gateway_sim.inspect import Fault, faults_of
from sync.opened import Opened, opened
from terminology.claim_tables import Version


@dataclass(frozen=True, slots=True)
class Held:
    """One dossier of one file. fault None: taken over."""

    ma_lk: str
    t_bhtt: Decimal
    fault: Fault | None


@dataclass(slots=True)
class File:
    """A file as received. place: the how manieth of its facility, so that faults do not depend on the time of day."""

    transaction: str
    facility_code: str
    sha256: bytes
    due: datetime
    dossiers: list[Held]
    place: int
    asked: int = 0


@dataclass(slots=True)
class Issued:
    facility_code: str
    id_token: str
    expires: datetime


@dataclass(slots=True)
class Books:
    """Everything in memory. misbooked counts files sent with the token of another facility: the real gateway takes
    them, and books them to the wrong one."""

    clock: Clock
    faults: Faults = field(default_factory=Faults)
    tokens: dict[str, Issued] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    latest: dict[tuple[str, str], Held] = field(default_factory=dict)
    checked_in: int = 0
    misbooked: int = 0
    calls: int = 0
    _received: dict[str, int] = field(default_factory=dict)
    _second: dict[str, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))

    def token(self, username: str, hashed: str) -> tuple[str, Issued] | None:
        """A new token for an account; None where name or password is wrong."""
        code = accounts.facility_of(username)
        if code is None or not secrets.compare_digest(password_hash(accounts.simulated(code)), hashed):
            return None
        access = secrets.token_hex(16)
        expires = self.clock.now() + timedelta(seconds=self.faults.token_life_s)
        self.tokens[access] = issued = Issued(code, secrets.token_hex(16), expires)
        return access, issued

    def holder(self, access: str, id_token: str, hashed: str) -> tuple[str, str | None]:
        """(maKetQua, facility of the token): 200, 401 unknown or wrong, 501 expired."""
        issued = self.tokens.get(access)
        if issued is None or issued.id_token != id_token:
            return "401", None
        if hashed != password_hash(accounts.simulated(issued.facility_code)):
            return "401", None
        if self.clock.now() >= issued.expires:
            del self.tokens[access]
            return "501", None
        return "200", issued.facility_code

    def throttled(self, account: str) -> bool:
        if not self.faults.calls_per_s:
            return False
        second = int(self.clock.monotonic_s())
        last, count = self._second[account]
        count = count + 1 if last == second else 1
        self._second[account] = (second, count)
        return count > self.faults.calls_per_s

    def unavailable(self) -> bool:
        self.calls += 1
        return self.faults.strikes(self.faults.unavailable, "unavailable", self.calls)

    def receive(self, token_facility: str, facility_code: str, body: bytes, version: Version) -> File:
        """Take a file in: every dossier is read, and replaces the one of the same MA_LK. Malformed raises."""
        dossiers = opened(body)
        if not dossiers:
            raise Malformed("the envelope holds no dossier", at="GIAMDINHHS")
        if token_facility != facility_code:
            self.misbooked += 1
        held: list[Held] = []
        seen: set[str] = set()
        for one in dossiers:
            verdict = self._judge(one, facility_code, version, repeated=one.ma_lk in seen)
            seen.add(one.ma_lk)
            held.append(verdict)
            self.latest[token_facility, one.ma_lk] = verdict
        transaction = f"{facility_code}{self.clock.now().astimezone(ICT):%Y%m%d%H%M%S}{len(self.files) + 1:06d}"
        due = self.clock.now() + timedelta(seconds=self.faults.answer_after_s)
        self._received[facility_code] = place = self._received.get(facility_code, 0) + 1
        file = File(transaction, facility_code, hashlib.sha256(body).digest(), due, held, place)
        self.files[transaction] = file
        return file

    def standing(self, transaction: str) -> dict[str, Any] | None:
        """The answer to a file, as far as there is one; None for an unknown file."""
        file = self.files.get(transaction)
        if file is None:
            return None
        file.asked += 1
        base: dict[str, Any] = {"maKetQua": "200", "maGiaoDich": transaction}
        if self.clock.now() < file.due:
            return base | {"trangThai": "DANG_XU_LY", "hoSo": []}
        lines = file.dossiers
        partly = self.faults.in_parts and file.asked == 1 and len(lines) > 1
        if partly:
            lines = lines[: len(lines) // 2]
        asked = sum((one.t_bhtt for one in lines), Decimal(0))
        if self.faults.strikes(self.faults.wrong_totals, "totals", file.facility_code, file.place):
            asked += 1000
        return base | {
            "trangThai": "DANG_XU_LY" if partly else "HOAN_THANH",
            "tongSoHoSo": len(lines),
            "soHoSoTiepNhan": sum(one.fault is None for one in lines),
            "soHoSoTuChoi": sum(one.fault is not None for one in lines),
            "tongTienDeNghi": str(asked),
            "hoSo": [_line(one) for one in lines],
        }

    def balance(self) -> Mapping[str, Any]:
        """The insurer's own sums, over the latest dossier of each episode."""
        accepted = [held for held in self.latest.values() if held.fault is None]
        rejected = [held for held in self.latest.values() if held.fault is not None]
        return {
            "files": len(self.files),
            "dossiers": len(self.latest),
            "accepted": len(accepted),
            "accepted_dong": str(sum((held.t_bhtt for held in accepted), Decimal(0))),
            "rejected": len(rejected),
            "rejected_dong": str(sum((held.t_bhtt for held in rejected), Decimal(0))),
            "misbooked": self.misbooked,
            "checked_in": self.checked_in,
        }

    def _judge(self, one: Opened, facility_code: str, version: Version, *, repeated: bool) -> Held:
        found = next(faults_of(one.tables, facility_code, version), None)
        if repeated:
            found = Fault("TRUNG", "MA_LK lặp lại trong một tệp")
        if found is None and self.faults.strikes(self.faults.rejections, "rejection", facility_code, one.ma_lk):
            found = Fault("GIA_THUOC", "Giá đề nghị cao hơn giá được phê duyệt")
        return Held(one.ma_lk, one.t_bhtt, found)


def _line(held: Held) -> dict[str, str]:
    return {
        "maLK": held.ma_lk,
        "ketQua": "1" if held.fault is None else "0",
        "tBHTT": str(held.t_bhtt),
        "maLoi": held.fault.code if held.fault else "",
        "moTaLoi": held.fault.text if held.fault else "",
    }
