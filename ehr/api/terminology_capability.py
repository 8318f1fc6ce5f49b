"""The TerminologyCapabilities: which code systems an operator has loaded.

In:      (url, version) of each loaded code system; the FHIR base
Out:     tree of a TerminologyCapabilities of kind instance
Source:  FHIR R4 terminologycapabilities.html, http.html#capabilities (mode=terminology)
"""

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from ehr.api.capability import DATE, IMPLEMENTATION, software

_DESCRIPTION: Final = (
    "Codes of required bindings are checked when a resource is written; what is loaded here gives codes their words, "
    "and search its value sets. The operations of terminology that are served are those the CapabilityStatement lists."
)


def terminology_capabilities(base: str, loaded: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The statement of the server at this base."""
    systems = [_system(url, [version for _, version in of]) for url, of in groupby(sorted(loaded), itemgetter(0))]
    return {
        "resourceType": "TerminologyCapabilities",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "description": _DESCRIPTION,
        "software": software(),
        "implementation": {"description": IMPLEMENTATION, "url": base},
        "lockedDate": False,
        **({"codeSystem": systems} if systems else {}),
    }


def _system(url: str, versions: list[str]) -> dict[str, Any]:
    """A code system whose publisher gives no version has none to name."""
    named = [{"code": version} for version in versions if version]
    return {"uri": url, **({"version": named} if named else {})}
