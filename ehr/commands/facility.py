"""The code of a facility, as commands are given it → its id."""

from ehr.errors import NotFound
from ehr.intake import Intake
from ehr.store.record import Record


async def facility_id(record: Record, code: str | None) -> int:
    """0, the city itself, where no code is given; NotFound for one that is not registered."""
    if code is None:
        return 0
    found = await Intake(record).facility(code)
    if found is None:
        raise NotFound(f"no facility {code} is registered")
    return found.id
