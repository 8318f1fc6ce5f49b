"""$validate: what the gate, profiles and the store would say of a resource, with nothing stored.

In:      a resource or the id of a stored one, mode and profile; the type of the address
Out:     issues: every problem with its FHIRPath, or none
Modes:   create, update and delete are rehearsed: done in a transaction that is undone, so that the answer is what the
         interaction would say, rights included; profile checks a stored resource against the profile that is named
Errors:  Malformed where nothing is there to be checked, or a mode needs an address it does not have; NotSupported for
         a profile that is not known here ("if the server cannot validate against the nominated profile, it SHALL
         return an error")
Source:  FHIR R4 resource-operation-validate.html, value set resource-validation-mode
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ehr.access.policy import Caller
from ehr.aside import aside
from ehr.errors import EhrError, Issue, Malformed, NotSupported
from ehr.fhir import codec
from ehr.fhir.validate import validate as validate_tree
from ehr.store import gate
from ehr.store.record import Record
from ehr.store.unit_of_work import UnitOfWork

MODES: Final = frozenset({"create", "update", "delete", "profile"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be validated, and as what. resource None: the one stored under the id."""

    type_name: str
    id: str | None = None
    resource: Mapping[str, Any] | None = None
    mode: str | None = None
    profile: str | None = None


async def validate(record: Record, caller: Caller, asked: Asked) -> list[Issue]:
    """Every problem; none when the resource is valid and the interaction would be done."""
    _refuse_senseless(asked)
    if asked.mode == "delete":
        return await _rehearsed(record, caller, lambda uow: _delete(uow, asked))
    tree = asked.resource if asked.resource is not None else await _stored(record, caller, asked)
    if tree.get("resourceType") != asked.type_name:
        return [Issue("invalid", f"resourceType must be {asked.type_name}, the type that is addressed", "resourceType")]
    wrong = await aside(True, validate_tree, tree, type_name=asked.type_name)
    issues = [*wrong, *_address_issues(asked, tree)]
    issues += await _profile_issues(record, caller, asked, tree, issues)
    if asked.mode in ("create", "update") and not any(issue.severity == "error" for issue in issues):
        issues += await _rehearsed(record, caller, lambda uow: _write(uow, asked, tree))
    return issues


def _refuse_senseless(asked: Asked) -> None:
    if asked.mode is not None and asked.mode not in MODES:
        raise NotSupported(f"mode is one of {', '.join(sorted(MODES))}", at="mode")
    if asked.mode in ("update", "delete") and asked.id is None:
        raise Malformed(f"mode {asked.mode} is asked at the address of the resource it is about", at="mode")
    if asked.mode == "profile" and asked.profile is None:
        raise Malformed("mode profile needs the profile to check against", at="profile")
    if asked.resource is None and asked.id is None:
        raise Malformed("the parameter resource is missing, and the address names none", at="resource")


def _address_issues(asked: Asked, tree: Mapping[str, Any]) -> list[Issue]:
    at = f"{asked.type_name}.id"
    if asked.mode == "update" and "id" not in tree:
        return [Issue("required", "an update has the id of its address", at)]
    if asked.id is not None and tree.get("id", asked.id) != asked.id:
        return [Issue("value", "the resource has another id than the address", at)]
    return []


async def _profile_issues(
    record: Record, caller: Caller, asked: Asked, tree: Mapping[str, Any], found: list[Issue]
) -> list[Issue]:
    """The profile that is named, those the resource claims, and the definitions of its extensions."""
    async with record.reading(caller) as uow:
        if asked.profile is not None:
            await record.profiles.require(uow, asked.profile)
        if any(issue.code == "structure" for issue in found):
            text = "profiles were not checked, because the structure is not that of R4"
            return [Issue("informational", text, severity="information")]
        return await record.profiles.problems(uow, tree, [asked.profile] if asked.profile else [])


async def _stored(record: Record, caller: Caller, asked: Asked) -> dict[str, Any]:
    assert asked.id is not None, "asked_of demands a resource or an id"
    async with record.reading(caller) as uow:
        version = await uow.resources.read(asked.type_name, asked.id)
    assert version.body is not None, "a read has a body"
    return codec.loads(version.body)


# ---- rehearsals


class _Undone(Exception):
    """Raised at the end of a rehearsal, so that its transaction is rolled back."""


async def _rehearsed(record: Record, caller: Caller, write: Callable[[UnitOfWork], Awaitable[None]]) -> list[Issue]:
    """The issues of the refusal, where there is one."""

    async def work(uow: UnitOfWork) -> None:
        await write(uow)
        raise _Undone

    try:
        await record.write(caller, work)
    except _Undone:
        return []
    except EhrError as error:
        return error.issues
    raise AssertionError("a rehearsal ends with an exception")


async def _write(uow: UnitOfWork, asked: Asked, tree: Mapping[str, Any]) -> None:
    gate.check(asked.type_name, tree)
    gate.refuse_conditional(tree)
    if asked.mode == "create":
        await uow.resources.create(asked.type_name, None, tree)
    else:
        await uow.resources.update(asked.type_name, str(tree["id"]), None, tree)


async def _delete(uow: UnitOfWork, asked: Asked) -> None:
    assert asked.id is not None, "a delete is asked at an address"
    await uow.resources.delete(asked.type_name, asked.id)
