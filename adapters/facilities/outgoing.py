"""Hold one message a facility sends."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Outgoing:
    """at: when the facility's system wrote it; control_id: its number there."""

    at: datetime
    kind: str
    control_id: str
    payload: bytes
