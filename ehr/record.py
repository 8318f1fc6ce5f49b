"""Settings and a database → the Record with everything it needs: dictionaries, the search behind conditions, persons.

The one place that knows store, search and identity; every composition root opens the record here.
"""

from collections.abc import Sequence

from ehr.access.policy import AccessPredicate
from ehr.clock import Clock
from ehr.database.connection import Connection
from ehr.database.engine import Database, Installation
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameters
from ehr.identity.link import PersonLinker
from ehr.search.matches import match_ids
from ehr.search.parse import parse
from ehr.search.plan import plan
from ehr.settings import Settings
from ehr.store.body import BodyCodec
from ehr.store.declarations import ParameterKeeper
from ehr.store.dictionaries import load_bodies
from ehr.store.operation_definitions import ServedDefinitions
from ehr.store.record import Record


class SearchMatcher:
    """Criteria of conditional interactions, answered by search."""

    def __init__(self, installation: Installation, bodies: BodyCodec) -> None:
        self._installation = installation
        self._bodies = bodies

    async def __call__(
        self,
        connection: Connection,
        type_name: str,
        criteria: Sequence[tuple[str, str]],
        access: AccessPredicate,
        *,
        source: int | None,
        limit: int,
        known: Parameters = parameters.R4,
    ) -> list[str]:
        planned = plan(parse(type_name, criteria, known=known), access)
        return await match_ids(
            connection, planned, limit, installation=self._installation, bodies=self._bodies, source=source
        )


async def open_record(settings: Settings, database_url: str, *, clock: Clock | None = None) -> Record:
    """The record of one process over a migrated database."""
    database = await Database.open(database_url, connections_max=settings.pool_connections_max)
    bodies = await load_bodies(database)
    record = Record(
        database,
        settings,
        clock=clock,
        followers=[PersonLinker(settings), ServedDefinitions(), ParameterKeeper()],
        matcher=SearchMatcher(database.installation, bodies),
        bodies=bodies,
    )
    await record.learn_parameters()
    return record
