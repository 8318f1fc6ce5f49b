"""GET /livez, /readyz and /metrics: for the machines that watch this process.

Out:     livez 200 while the loop turns; readyz 200 or 503 with each check's word; metrics in Prometheus text
Keeps:   nothing about a person: counts, ages and states only
"""

from collections.abc import Mapping

import asyncpg
import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from ehr.database.migrate import newest
from ehr.ops.health import Check, readiness
from ehr.ops.metrics import CONTENT_TYPE, Metrics
from ehr.store.record import Record

log = structlog.get_logger()


class OpsDoor:
    """The three routes."""

    def __init__(self, record: Record, metrics: Metrics, checks: Mapping[str, Check]) -> None:
        self._record = record
        self._metrics = metrics
        self._checks = checks
        self._revision = newest()

    async def livez(self, _: Request) -> Response:
        return _json(200, {"alive": True})

    async def readyz(self, _: Request) -> Response:
        found = await readiness(self._record.database.acquire, revision=self._revision, others=self._checks)
        return _json(200 if found.ready else 503, {"ready": found.ready, "checks": dict(found.checks)})

    async def metrics(self, _: Request) -> Response:
        """Everything observed; the backlog too, where the database can be asked: a scrape must not fail with it."""
        try:
            async with self._record.database.acquire(timeout_s=1.0) as connection:
                await self._metrics.measure(connection)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("backlog not measured", error=type(error).__name__)
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)


def _json(status: int, content: dict[str, object]) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
