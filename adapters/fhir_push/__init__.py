"""Facilities that speak FHIR: their transaction Bundles, and the answers of both HTTP doors."""

from adapters.fhir_push.answer import outcome, packed, unpacked
from adapters.fhir_push.receive import asked, bundle_of, control_id

__all__ = ["asked", "bundle_of", "control_id", "outcome", "packed", "unpacked"]
