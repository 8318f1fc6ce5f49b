"""Compose the HTTP application: the FHIR interface, its token endpoint, the machine pages, and what a root mounts.

In:      the Record, Settings, and the rooms above or beside: a facility's Bundle door, further routes, checks
Out:     a FastAPI application; ehr.api.server.run_http runs it
Order:   FHIR requests go to their own routes at the edge; then the JSON APIs, the pages, and what the root adds
"""

from collections.abc import Awaitable, Mapping, Sequence

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ehr.access.authenticate import Authenticator, issuer
from ehr.api import errors, fhir, identity, smart
from ehr.api.cors import Origins
from ehr.api.edge import Edge, FhirEdge
from ehr.api.errors import is_fhir
from ehr.api.exchange import Door
from ehr.api.fhir_system import FacilityBundleDoor
from ehr.api.ops import OpsDoor
from ehr.ops.health import Check
from ehr.ops.metrics import Metrics
from ehr.settings import Settings
from ehr.store.record import Record
from ehr.web.citizen import CitizenPages
from ehr.web.ops import OperatorPages
from ehr.web.pages import assets


class Application(FastAPI):
    """FastAPI, and past it the FHIR routes: the five layers around its own have nothing to do for them."""

    fhir: ASGIApp

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        if scope["type"] == "http" and is_fhir(scope["path"]):
            scope["app"] = self
            return self.fhir(scope, receive, send)
        return super().__call__(scope, receive, send)


def create_app(
    record: Record,
    settings: Settings,
    *,
    facility_bundle: FacilityBundleDoor | None = None,
    mounts: Sequence[BaseRoute | APIRouter] = (),
    checks: Mapping[str, Check] | None = None,
    metrics: Metrics | None = None,
) -> Application:
    """The application of one process. checks are what else must be well, by name ("broker")."""
    authenticator = Authenticator(record, settings)
    door = Door(record, authenticator, settings.base_url)
    metrics = metrics or Metrics()
    app = Application(
        title="City health record",
        version="1",
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # they would carry addresses, and so ids
    )
    app.router.redirect_slashes = False
    app.state.record = record
    app.state.authenticator = authenticator
    app.state.metrics = metrics
    tls = (settings.base_url or "").startswith("https:")
    routes = fhir.Routes(door, facility_bundle, smart.configuration_of(settings))
    app.fhir = FhirEdge(routes, metrics, record.clock, Origins(settings.cors_origins), tls=tls)
    app.add_middleware(Edge, metrics=metrics, clock=record.clock, tls=tls)
    errors.install(app)

    ops = OpsDoor(record, metrics, checks or {})
    tokens = smart.TokenEndpoint(record, authenticator, settings, door)
    app.router.routes.extend(
        [
            Route("/oauth/token", tokens.post, methods=["POST"]),
            Route("/oauth/jwks", smart.jwks_of(authenticator)),
            Route("/livez", ops.livez),
            Route("/readyz", ops.readyz),
            Route("/metrics", ops.metrics),
        ]
    )
    app.include_router(identity.router(record, authenticator))
    for pages in (CitizenPages, OperatorPages):
        app.router.routes.extend(pages(record, authenticator, issuer(settings)).routes())
    app.router.routes.extend(assets())
    for mount in mounts:
        if isinstance(mount, APIRouter):
            app.include_router(mount)
        else:
            app.router.routes.append(mount)
    return app
