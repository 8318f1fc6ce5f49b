"""The OperationDefinitions that this server serves stand among its resources: read, searched and kept as any other.

In:      the files of ehr.fhir.operation_definitions
Out:     their current versions, under their own ids; a start that brings nothing new writes nothing (docs/adr/0013)
Errors:  Forbidden for whoever else writes one: it says what the program does, and only the program changes that
Source:  FHIR R4 operations.html ("the definition of an operation is a resource")
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ehr.access.policy import Caller
from ehr.errors import Forbidden
from ehr.fhir import codec
from ehr.fhir.operation_definitions import OPERATIONS, bodies
from ehr.store.resources import Write
from ehr.store.version import Before, Version

if TYPE_CHECKING:
    from ehr.store.record import Record
    from ehr.store.unit_of_work import UnitOfWork

_TYPE: Final = "OperationDefinition"
_CITY: Final = Caller.system("operation definitions")


async def publish(record: "Record") -> None:
    """Store what has changed since an earlier start."""
    trees = [codec.loads(body) for body in bodies()]
    writes = [Write("U", _TYPE, tree["id"], None, tree) for tree in trees]

    async def work(uow: "UnitOfWork") -> None:
        await uow.resources.apply(writes)

    await record.write(_CITY, work)


class ServedDefinitions:
    """The follower that keeps them as they are."""

    types: Final = frozenset({_TYPE})

    async def written(
        self,
        uow: "UnitOfWork",
        version: Version,
        tree: Mapping[str, Any] | None,  # noqa: ARG002 - a follower is told
        before: Before | None = None,  # noqa: ARG002 - a follower is told
    ) -> None:
        self._refuse(uow, version)

    async def written_first(self, uow: "UnitOfWork", many: Sequence[tuple[Version, Mapping[str, Any]]]) -> None:
        for version, _ in many:
            self._refuse(uow, version)

    def _refuse(self, uow: "UnitOfWork", version: Version) -> None:
        if version.id in OPERATIONS and uow.caller.id != _CITY.id:
            raise Forbidden("this definition is what the server does; store yours under another id", at=f"{_TYPE}.id")
