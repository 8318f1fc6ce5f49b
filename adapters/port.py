"""What adapters share: where a message came from, and what a mapper is.

A mapper is pure: what was sent → a transaction Bundle, or every reason why it is none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from ehr.errors import Issue
from ehr.fhir.elements import reference
from ehr.fhir.vietnam import FACILITY_CODE

Bundle: TypeAlias = dict[str, Any]
"""A FHIR R4 transaction Bundle as a tree; decimals are Decimal so that digits stay as sent."""

Sent = TypeVar("Sent")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent it, under which number, and when it came.

    facility_code   MACSKCB of the sending facility; "" where it is not known
    organization    reference of the facility's Organization ("Organization/<id>"), where it is registered
    control_id      MSH-10, Bundle.identifier, MA_LK …
    received        when the ledger took it; no message was written later than that
    """

    facility_code: str
    control_id: str
    organization: str | None = None
    received: datetime | None = None

    @property
    def facility(self) -> dict[str, Any] | None:
        """The sender as a Reference: its Organization, else its code; None where neither is known."""
        if self.organization:
            return reference(self.organization)
        if self.facility_code:
            return {"identifier": {"system": FACILITY_CODE, "value": self.facility_code}}
        return None


Mapped: TypeAlias = Bundle | list[Issue]

Mapper: TypeAlias = Callable[[Sent, Origin], Mapped]
