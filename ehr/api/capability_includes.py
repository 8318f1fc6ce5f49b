"""What may be included around each type, as the CapabilityStatement lists it.

Out:     search_includes(type), search_revincludes(type): values of _include and _revinclude, wildcards first
Source:  FHIR R4 capabilitystatement.html (searchInclude, searchRevInclude), search.html#include
"""

from functools import cache

from ehr.fhir.parameters import Parameter
from ehr.search.served import SUPPORTED, included


def search_includes(type_name: str) -> list[str]:
    """By every reference of the type, and every canonical url, which * leaves out."""
    return ["*", *(f"{type_name}:{one.code}" for one in SUPPORTED[type_name] if included(one, reverse=False))]


def search_revincludes(type_name: str) -> list[str]:
    """By every reference of any type that may point to this one."""
    return ["*", *(f"{one.type_name}:{one.code}" for one in _references() if one.may_target(type_name))]


@cache
def _references() -> list[Parameter]:
    return [one for parameters in SUPPORTED.values() for one in parameters if included(one, reverse=True)]
