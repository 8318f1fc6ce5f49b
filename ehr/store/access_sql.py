"""AccessPredicate → the condition every hand-written statement of the store carries.

Parameters $1 and $2 of each such statement, or those it says: the confining person's id (null: not confined) and the
type_ids that a confined caller may read whole. A confined caller sees a row when it lies in a shard linked to the
person now, when its type is open, or when it is the Person itself.
"""

from typing import Final

from ehr.access.policy import AccessPredicate, Action
from ehr.errors import Forbidden
from ehr.fhir.r4 import TYPE_IDS

PERSON: Final = TYPE_IDS["Person"]


def seen(alias: str, first: int = 1) -> str:
    """The condition on a row that has type_id, id and shard; alias is a name of ours, never a value; first: the number
    of the first of the two parameters."""
    return (
        f"(${first}::text IS NULL OR {alias}.type_id = ANY(${first + 1}::smallint[])"  # noqa: S608 - alias is ours
        f" OR {alias}.shard IN (SELECT l.shard FROM person_link l WHERE l.person_id = ${first})"
        f" OR ({alias}.type_id = {PERSON} AND {alias}.id = ${first}))"
    )


def arguments(access: AccessPredicate) -> tuple[str | None, list[int]]:
    """$1 and $2."""
    return access.person_id, [TYPE_IDS[name] for name in sorted(access.open_types)]


def require(access: AccessPredicate, type_name: str, action: Action) -> None:
    """Refuse a type the grants do not name, before any SQL is built."""
    if not access.grants.allow(type_name, action):
        raise Forbidden(f"the token does not grant {action!r} on {type_name}")
