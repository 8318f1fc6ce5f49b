"""Members of a Group. Pure.

In:      the tree of a Group
Out:     ids of the Patients among the members that are active, each once
"""

from collections.abc import Mapping
from typing import Any


def patients_of(group: Mapping[str, Any]) -> list[str]:
    """At this moment, in the order of the Group."""
    found = [member.get("entity", {}).get("reference", "") for member in group.get("member", []) if _active(member)]
    ids = [one.removeprefix("Patient/") for one in found if one.startswith("Patient/") and one.count("/") == 1]
    return list(dict.fromkeys(ids))


def _active(member: Mapping[str, Any]) -> bool:
    return member.get("inactive") is not True
