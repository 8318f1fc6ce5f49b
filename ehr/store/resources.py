"""Resources of one transaction: read, vread, create, update, delete, history; access applied in each.

Read:     one statement applies access, fetches and writes the audit row (ehr.store.read_sql)
Write:    rows are locked in one order (type, id), so writers queue instead of deadlocking; versions are 1, 2, 3 …
          without a gap, through deletions too (a deletion is a version; what is created after it continues)
No-op:    an update equal to the current version but for meta.versionId and meta.lastUpdated changes nothing and
          returns the current version, so a facility may send the same thing again
Errors:   NotFound (also where the caller may not know), Gone, Forbidden, PreconditionFailed, Duplicate, Malformed
Source:   FHIR R4 3.1.0 RESTful API
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ehr.access.policy import AccessPredicate, Caller
from ehr.aside import Turns
from ehr.database.partitions import partition_name
from ehr.errors import (
    Duplicate,
    Forbidden,
    Gone,
    Invalid,
    Issue,
    Malformed,
    NotFound,
    Refused,
)
from ehr.fhir import codec
from ehr.fhir.compartments import PATIENT_TYPES, patient_of
from ehr.fhir.elements import is_subsetted
from ehr.fhir.patch import Patch, applied
from ehr.fhir.profiles.check import claims
from ehr.fhir.r4 import TYPE_IDS
from ehr.ids import FHIR_ID, new_id
from ehr.index import contained
from ehr.store import gate, history, read_sql, writes
from ehr.store.access_sql import arguments, require
from ehr.store.locks import Current, Holding, Key, Tombstone, hold
from ehr.store.preconditions import Versions, refuse_unmet
from ehr.store.version import Before, Op, Version
from ehr.store.writes import Noted, Staged

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

_SHARDS: Final = "SELECT shard FROM person_link WHERE person_id = $1"


@dataclass(slots=True)
class Write:
    """One write asked for. at names it in errors ("Bundle.entry[3]").

    body     the sender's bytes; None: tree is written as it is
    id       None only for a create: the server chooses. made_id says that the given id was chosen by us
    patch    an update that says only what changes: body and tree come of it and what is there
    if_none  an update that only creates: nothing may be there
    """

    action: Op
    type_name: str
    id: str | None = None
    body: bytes | None = None
    tree: Mapping[str, Any] | None = None
    if_match: Versions | None = None
    at: str | None = None
    made_id: bool = False
    patch: Patch | None = None
    if_none: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a Write. version None: a delete found nothing. changed False: nothing was written."""

    version: Version | None
    created: bool = False
    changed: bool = True


class Resources:
    """Bound to one unit of work and one caller."""

    def __init__(self, uow: "UnitOfWork", caller: Caller, access: AccessPredicate) -> None:
        self._uow = uow
        self.caller = caller
        self.access = access

    async def read(self, type_name: str, id: str) -> Version:
        """The current version."""
        require(self.access, type_name, "r")
        access, noted = self.access, type_name in PATIENT_TYPES
        values: tuple[Any, ...] = TYPE_IDS[type_name], id
        if noted:
            values += *self._who(), 0
        if access.person_id is not None:
            values += arguments(access)
        sql = read_sql.read(partition_name(type_name), noted=noted, confined=access.person_id is not None)
        if noted:
            rows = await self._uow.fetch(sql, values, read_sql.ASKER)
        else:
            rows = await self._uow.connection.fetch(sql, *values)
        if not rows:
            raise await self._absent(type_name, id)
        row = rows[0]
        body = self._uow.record.bodies.decompress(row["body"])
        op: Op = "C" if row["version"] == 1 else "U"
        return Version(type_name, id, row["version"], row["updated"], op, body, row["rid"], row["shard"], row["source"])

    async def vread(self, type_name: str, id: str, version: int) -> Version:
        """One version, current or not."""
        require(self.access, type_name, "r")
        if not 0 < version < 2**31:
            raise NotFound(f"there is no such version of this {type_name}")
        values = TYPE_IDS[type_name], id, *self._who(), *arguments(self.access), type_name in PATIENT_TYPES, version
        row = await self._uow.connection.fetchrow(read_sql.VREAD, *values)
        if row is None:
            raise NotFound(f"there is no such version of this {type_name}")
        if row["op"] == "D":
            raise Gone(f"this version is the deletion of the {type_name}")
        body = self._uow.record.bodies.decompress(row["body"])
        return Version(type_name, id, version, row["updated"], row["op"], body, row["rid"], row["shard"], row["source"])

    async def create(
        self, type_name: str, body: bytes | None, tree: Mapping[str, Any], *, id: str | None = None
    ) -> Version:
        """A new resource under a fresh id, or under `id`, which must be free."""
        written = await self.apply([Write("C", type_name, id, body, tree)])
        assert written[0].version is not None, "a create makes a version"
        return written[0].version

    async def update(
        self,
        type_name: str,
        id: str,
        body: bytes | None,
        tree: Mapping[str, Any],
        *,
        if_match: Versions | None = None,
        if_none: bool = False,
    ) -> tuple[Version, bool]:
        """The next version, or the first one under a client's id; True when it was created."""
        written = await self.apply([Write("U", type_name, id, body, tree, if_match, if_none=if_none)])
        assert written[0].version is not None, "an update makes or keeps a version"
        return written[0].version, written[0].created

    async def delete(self, type_name: str, id: str, *, if_match: Versions | None = None) -> Version | None:
        """The deletion as a version; the earlier one when it is deleted already; None when it never was."""
        return (await self.apply([Write("D", type_name, id, if_match=if_match)]))[0].version

    async def history(
        self,
        type_name: str | None = None,
        id: str | None = None,
        *,
        since: datetime | None = None,
        at: tuple[datetime, datetime] | None = None,
        count: int | None = None,
        cursor: str | None = None,
        patient_id: str | None = None,
    ) -> history.HistoryPage:
        """Versions, newest first: of a resource, a type, one patient's compartment, or everything."""
        asked = history.Asked(type_name, id, since, at, count, cursor, patient_id)
        return await history.page(self._uow, self.caller, asked)

    async def apply(
        self,
        asked: Sequence[Write],
        *,
        holding: Holding | None = None,
        noted: Sequence[Noted] = (),
        also: Callable[[Sequence[Version], Sequence[Version]], Sequence[Write]] | None = None,
    ) -> list[Written]:
        """Any number of writes of distinct resources, together. The answer is in the order asked.

        holding  rows that are locked already; noted  accesses to be audited with the writes
        also     versions about to be made, and those that stand → what is written with them (a Provenance)
        """
        assert not self._uow.reading, "a unit of work opened for reading does not write"
        for write in asked:
            self._check(write)
        await self._uow.plan("once")
        held = await hold(self._uow.connection, _keys(asked), holding)
        shards = await self._shards()
        outcomes = await Turns().each(lambda write: self._plan(write, held, shards), asked)
        await self._check_claims(asked, outcomes)
        staged = [o for o in outcomes if isinstance(o, Staged)]
        kept = [o.version for o in outcomes if isinstance(o, Written) and o.version and o.version.op != "D"]
        further = also([s.done() for s in staged], kept) if also is not None else ()
        for write in further:
            self._check(write)
        held = await hold(self._uow.connection, _keys(further), held)
        staged += [o for o in (self._plan(w, held, shards) for w in further) if isinstance(o, Staged)]
        unchanged = [Noted("U", v.type_name, v.id, v.shard, unchanged=True) for v in kept]
        made = await writes.flush(self._uow, self.caller, staged, [*noted, *unchanged])
        for s, version in zip(staged, made, strict=True):
            for follower in self._uow.record.followers:
                if s.type_name in follower.types:
                    await follower.written(self._uow, version, s.tree, s.before)
        following = iter(made)
        return [Written(next(following), created=o.op in ("C", "P")) if isinstance(o, Staged) else o for o in outcomes]

    # ---- reading

    def _who(self) -> tuple[str, str, int, str]:
        """The caller as the audit names it."""
        return self.caller.kind, self.caller.id, self.caller.facility_id, self.caller.purpose

    async def _absent(self, type_name: str, id: str) -> NotFound | Gone:
        op = await self._uow.connection.fetchval(read_sql.DELETED, *arguments(self.access), TYPE_IDS[type_name], id)
        if op == "D":
            return Gone(f"this {type_name} was deleted")
        return NotFound(f"there is no {type_name} with this id")

    # ---- writing

    def _check(self, write: Write) -> None:
        """What can be refused without looking at the database."""
        assert write.action != "U" or write.id, "an update names its resource"
        require(self.access, write.type_name, "d" if write.action == "D" else "c" if write.action == "C" else "u")
        if write.id is not None and not FHIR_ID.fullmatch(write.id):
            raise Malformed("an id has 1 to 64 of A-Z a-z 0-9 - .", at=write.at or f"{write.type_name}.id")
        if write.action != "D" and write.patch is None:
            assert write.tree is not None, "a create or update has a resource"
            assert write.tree["resourceType"] == write.type_name, "the gate compared the types"
            if write.action == "U" and write.tree.get("id", write.id) != write.id:
                raise Malformed("the resource's id is not the id it is written under", at=f"{write.type_name}.id")
            if write.action == "U" and any(map(is_subsetted, (write.tree.get("meta") or {}).get("tag", ()))):
                at = write.at or f"{write.type_name}.meta.tag"
                raise Invalid("this is a part of a resource (SUBSETTED), and would replace the whole of it", at=at)

    async def _check_claims(self, asked: Sequence[Write], outcomes: Sequence[Staged | Written]) -> None:
        """A resource conforms to what it claims in meta.profile, where that is a profile known here (docs/adr/0073)."""
        record, turns = self._uow.record, Turns()
        if record.settings.profile_claims == "trusted":
            return
        for write, staged in zip(asked, outcomes, strict=True):
            if not isinstance(staged, Staged) or staged.tree is None or not claims(staged.tree):
                continue
            broken = await record.profiles.broken_claims(self._uow, staged.tree)
            if broken and write.at is not None:
                moved = _of_entry if write.patch is not None else _of_resource
                broken = [moved(issue, write.at) for issue in broken]
            if broken:
                raise Invalid("the resource does not conform to the profile it claims", issues=broken)
            await self._uow.plan("once")
            await turns.take()

    async def _shards(self) -> frozenset[int] | None:
        if self.access.person_id is None:
            return None
        rows = await self._uow.connection.fetch(_SHARDS, self.access.person_id)
        return frozenset(row["shard"] for row in rows)

    def _plan(self, write: Write, holding: Holding, shards: frozenset[int] | None) -> Staged | Written:
        """One write against what is stored: what will be written, or what stands."""
        key = (write.type_name, write.id or "")
        before, tombstone = holding.current.get(key), holding.tombstones.get(key)
        if before is not None and write.action != "C":
            self._may_change(write, before, shards)
        if write.patch is not None and before is None:  # whatever If-Match says (RFC 9110 13.2.1)
            raise _not_there(write, tombstone, shards)
        stands = before.version if before else None
        refuse_unmet(write.type_name, stands, write.if_match, only_new=write.if_none, at=write.at)
        if write.action == "D":
            return self._plan_delete(write, before, tombstone)
        if write.action == "C" and (before or tombstone):
            raise Duplicate(f"this {write.type_name} id is taken", at=write.at)
        if write.patch is not None:
            write = self._patched(write, write.patch, holding)
        return self._plan_version(write, holding, shards)

    def _patched(self, write: Write, patch: Patch, holding: Holding) -> Write:
        """The update that a patch means; what comes of it passes the gate like any other."""
        key, bodies = (write.type_name, write.id or ""), self._uow.record.bodies
        try:
            body, tree = applied(holding.text(key, bodies), holding.tree(key, bodies), patch)
            gate.check(write.type_name, tree, made=True)
        except Refused as error:
            if write.at is None:
                raise
            raise type(error)(str(error), issues=[_of_entry(issue, write.at) for issue in error.issues]) from error
        return replace(write, body=body, tree=tree, patch=None)

    def _may_change(self, write: Write, before: Current, shards: frozenset[int] | None) -> None:
        if shards is not None and before.shard not in shards:
            raise NotFound(f"there is no {write.type_name} with this id", at=write.at)
        if self.caller.kind != "system" and self.caller.facility_id and before.source != self.caller.facility_id:
            raise Forbidden("a facility changes only what it sent itself", at=write.at)

    def _plan_delete(self, write: Write, before: Current | None, tombstone: Tombstone | None) -> Staged | Written:
        assert write.id, "a delete names its resource"
        if before is None:
            stands = tombstone.as_version(write.type_name, write.id) if tombstone else None
            return Written(stands, changed=False)
        updated = max(self._uow.now, before.updated)
        staged = Staged(write.type_name, write.id, "D", before.version + 1, updated, before.shard, before.source)
        staged.rid = before.rid
        text = self._uow.record.bodies.decompress(before.body)
        patient = patient_of(codec.loads(text))
        staged.patients, staged.contained = (patient,) if patient else (), contained.MEMBER in text
        return staged

    def _plan_version(self, write: Write, holding: Holding, shards: frozenset[int] | None) -> Staged | Written:
        assert write.tree is not None, "a create or update has a resource"
        record, now = self._uow.record, self._uow.now
        key = (write.type_name, write.id or "")
        before, tombstone = holding.current.get(key), holding.tombstones.get(key)
        if write.action == "U" and before is None:
            require(self.access, write.type_name, "c")
        id = write.id or new_id()
        if before is not None:
            same = codec.with_meta(write.body, write.tree, id=id, version=before.version, updated=before.updated)
            if same == holding.text(key, record.bodies):
                return Written(before.as_version(write.type_name, id, same), changed=False)
        last = before or tombstone
        version, updated = (last.version + 1, max(now, last.updated)) if last else (1, now)
        rows = record.extractor.extract(write.tree, write.type_name, id)
        staged = Staged(
            write.type_name,
            id,
            "U" if before else "P" if write.id is not None and not write.made_id else "C",
            version,
            updated,
            rows.shard,
            before.source if before else self.caller.facility_id,
            codec.with_meta(write.body, write.tree, id=id, version=version, updated=updated),
            {**write.tree, "id": id},
            rows,
        )
        staged.rid = last.rid if last else 0
        staged.patients = (rows.patient,) if rows.patient else ()
        if before is not None:
            staged.contained = contained.MEMBER in holding.text(key, record.bodies)
            self._compare(staged, before, holding)
        if shards is not None and staged.shard not in shards:
            raise Forbidden("this token writes only the record of its own person", at=write.at)
        return staged

    def _compare(self, staged: Staged, before: Current, holding: Holding) -> None:
        """What others want to know of the version that is replaced, where they do."""
        moved = before.shard != staged.shard
        if not moved and staged.type_name not in self._uow.record.followed:
            return
        tree = holding.tree((staged.type_name, staged.id), self._uow.record.bodies)
        staged.before = Before(tree, before.person_id)
        left = patient_of(tree) if moved else None
        if left:  # the patient whose record it leaves: that summary changes too
            staged.patients = tuple(dict.fromkeys([*staged.patients, left]))


def _not_there(write: Write, tombstone: Tombstone | None, shards: frozenset[int] | None) -> NotFound | Gone:
    """Why there is nothing to patch; who may not know of a deletion is not told."""
    if tombstone is None or (shards is not None and tombstone.shard not in shards):
        return NotFound(f"there is no {write.type_name} with this id", at=write.at)
    return Gone(f"this {write.type_name} was deleted", at=write.at)


def _of_entry(issue: Issue, at: str) -> Issue:
    """The same issue as one of a Bundle's entry, whose resource is the patch: the element is named in the text."""
    return Issue(issue.code, f"{issue.at}: {issue.text}" if issue.at else issue.text, at, issue.severity)


def _of_resource(issue: Issue, at: str) -> Issue:
    """Observation.status → Bundle.entry[3].resource.status."""
    _, dot, below = (issue.at or "").partition(".")
    return Issue(issue.code, issue.text, f"{at}.resource{dot}{below}", issue.severity)


def _keys(asked: Iterable[Write]) -> Iterator[Key]:
    """The resources that may be there already."""
    return ((write.type_name, write.id) for write in asked if write.id and not write.made_id)
