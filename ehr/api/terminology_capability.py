"""The TerminologyCapabilities: which code systems there are, and how value sets are expanded.

In:      each loaded code system; the FHIR base
Out:     tree of a TerminologyCapabilities of kind instance
Source:  FHIR R4 terminologycapabilities.html, http.html#capabilities (mode=terminology)
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

from ehr.api.capability import DATE, IMPLEMENTATION, software
from ehr.fhir.operation_definitions import OPERATIONS
from ehr.store.codes import BY_FORM
from terminology.codesystem import Loaded

_DESCRIPTION: Final = (
    "Codes of required bindings are checked when a resource is written. The code systems listed are those an operator "
    "has loaded, and those that are grammars; CodeSystems and ValueSets of the record serve as loaded ones do, and are "
    "found by a search. The operations of terminology are those the CapabilityStatement lists."
)
_TEXT_FILTER: Final = (
    "A code that begins with the text, or a display or designation in which each word of it begins a word; case and "
    "accents do not matter."
)


def terminology_capabilities(base: str, loaded: Iterable[Loaded]) -> dict[str, Any]:
    """The statement of the server at this base."""
    systems = [_system(url, list(of)) for url, of in groupby(loaded, lambda one: one.url)]
    named = {one["uri"] for one in systems}
    systems += [{"uri": url, "subsumption": False} for url in sorted(BY_FORM - named)]
    return {
        "resourceType": "TerminologyCapabilities",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "description": _DESCRIPTION,
        "software": software(),
        "implementation": {"description": IMPLEMENTATION, "url": base},
        "lockedDate": False,
        "codeSystem": systems,
        "expansion": {
            "hierarchical": True,
            "paging": True,
            "incomplete": False,
            "parameter": [{"name": one.name} for one in OPERATIONS["ValueSet-expand"].parameters],
            "textFilter": _TEXT_FILTER,
        },
        "codeSearch": "explicit",
        "validateCode": {"translations": True},
        "translation": {"needsMap": False},
    }


def _system(url: str, loaded: list[Loaded]) -> dict[str, Any]:
    """A code system whose publisher gives no version has none to name."""
    versions = [
        {"code": one.version, "isDefault": one.is_default, "language": [one.language]} for one in loaded if one.version
    ]
    return {"uri": url, **({"version": versions} if versions else {}), "subsumption": True}
