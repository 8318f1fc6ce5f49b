"""Profiles, tags and security labels: one term for each distinct one of the whole record, so that they can be listed.

term     (BESIDE + param_id, token): the token finds the resources that have it, and these say it in words ($meta,
         ehr.store.meta); so a term is never longer than a number, and never outlives its use in an answer
What     a profile as it is claimed, with its version; a Coding that has a code, by system and code
Bound    limits.meta_values_max of each parameter are kept (ehr.index.term): where every resource has a tag of its own,
         none of them costs a row here
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ehr.fhir.parameters import COMMON, R4
from ehr.index.hashing import Hasher
from ehr.index.normalize import VALUE_CHARACTERS_MAX

BESIDE: Final = 1 << 30
"""Above the ids of all parameters, whose other terms lie beside these."""

PARAMETERS: Final[Mapping[str, int]] = {name: R4.of(COMMON)[f"_{name}"].id for name in ("profile", "security", "tag")}
"""Elements of meta → the parameters that find them."""

CODED: Final = frozenset({PARAMETERS["security"], PARAMETERS["tag"]})


def profile(hasher: Hasher, value: str) -> tuple[tuple[int, ...], tuple[tuple[int, str], ...]]:
    """The tokens of a profile, with and without its version; its terms, of which one is for :below."""
    param_id, url = PARAMETERS["profile"], value.partition("|")[0]
    token = hasher.uri(param_id, value)
    terms = (param_id, url[:VALUE_CHARACTERS_MAX]), (BESIDE + param_id, str(token))
    return (token, hasher.uri(param_id, url)), terms


def members(hasher: Hasher, meta: Mapping[str, Any]) -> Iterator[tuple[int, str, Any]]:
    """Token, element and value of all that a meta has of them."""
    for profile in filter(None, meta.get("profile", ())):  # one may be an extension only
        yield hasher.uri(PARAMETERS["profile"], profile), "profile", profile
    for name in ("security", "tag"):
        for coding in meta.get(name, ()):
            if "code" in coding:
                yield hasher.token(PARAMETERS[name], coding.get("system"), coding["code"]), name, coding


def unversioned(hasher: Hasher, profile: str) -> int:
    """The token by which a profile is found whatever its version."""
    return hasher.uri(PARAMETERS["profile"], profile.partition("|")[0])
