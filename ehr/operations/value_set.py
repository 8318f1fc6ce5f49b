"""The value set an operation is asked of → what is known of it, and its codes.

In:      which one, as ehr.operations.definition takes it: loaded, of this record, of R4, said by its url, or sent
Out:     Contents; or whether one code is in it, without its expansion where that is not needed
Errors:  NotFound      no such value set here
         Invalid       one that cannot be expanded: it needs a code system that is not here, or an unknown filter
         NotSupported  versions for a value set that was expanded when it was loaded
Source:  FHIR R4 4.9.18.1 $expand, 4.9.18.2 $validate-code
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from ehr.errors import Invalid, NotFound, NotSupported
from ehr.operations.definition import Named, definition, read
from ehr.store.canonicals import Canonicals
from ehr.store.codes import AS_NAMED, Asking, Codes, Versions, by_form, has_form
from ehr.store.unit_of_work import UnitOfWork
from terminology import valueset
from terminology.errors import Unreadable
from terminology.expand import Codes as Expansion
from terminology.expand import expand
from terminology.membership import is_member
from terminology.resources import Designation, ValueSet

Designations = Mapping[tuple[str, str], Sequence[Designation]]
"""(system, code) → what the value set itself calls it, beside its display."""


@dataclass(frozen=True, slots=True)
class Contents:
    """tree: what is told of it. versions: of the code systems, where it names one. designations: its own."""

    tree: Mapping[str, Any]
    codes: Expansion
    versions: Mapping[str, str]
    designations: Designations = field(default_factory=dict)


async def contents(uow: UnitOfWork, codes: Codes, named: Named, versions: Versions = AS_NAMED) -> Contents:
    named.require("valueSet")
    asking = Asking(codes, Canonicals.within(uow), versions)
    loaded = None if named.url is None else await valueset.expansion(uow.connection, named.url)
    if named.url is not None and loaded is not None:
        settled = versions.systems & {system for system, _ in loaded}
        if settled:
            text = f"the value set was expanded when it was loaded: its version of {min(settled)[:200]} is settled"
            raise NotSupported(text, at="url")
        return Contents(_told(named.url), loaded, {}, await valueset.designations(uow.connection, named.url))
    tree = await definition(uow, "ValueSet", named)
    with _expanding():
        if tree is not None:
            made = cast("ValueSet", read(tree))
            return Contents(tree, await expand(asking, made), _versions(made, versions), made.designations)
        assert named.url is not None, "an id that is not here is refused"
        listed = await asking.codes(named.url)
    if listed is None:
        raise _unknown(named.url)
    return Contents(_told(named.url), listed, dict(versions.defaults) | dict(versions.forced))


async def contains(
    uow: UnitOfWork, codes: Codes, named: Named, key: tuple[str, str], version: str | None = None
) -> bool | None:
    """Whether a code of a system is in it; None where what is known does not tell. key: system and code."""
    system, code = key
    asking = Asking(codes, Canonicals.within(uow), Versions({system: version} if version else {}))
    if named.url is None:
        tree = await definition(uow, "ValueSet", named)
        assert tree is not None, "an id that is not here is refused"
        with _expanding():
            return await is_member(asking, cast("ValueSet", read(tree)), system, code)
    of_form = by_form(named.url)
    if of_form is not None:
        return system == of_form and has_form(system, code)
    return await asking.member(named.url, system, code)


async def names_in(uow: UnitOfWork, named: Named, system: str, code: str) -> list[str] | None:
    """What the value set itself calls a code that it lists, the display first; None where it lists no such code."""
    key = (system, code)
    if named.url is not None:
        found = await valueset.validate_code(uow.connection, named.url, code, system=system)
        if found.result is not None:
            others = (await valueset.designations(uow.connection, named.url, code)).get(key, ())
            return [found.display or "", *(one.value for one in others)] if found.result else None
    tree = await definition(uow, "ValueSet", named)
    if tree is None:
        return None
    made = cast("ValueSet", read(tree))
    listed = [*(made.expansion or ()), *((one.system, *each) for one in made.include for each in one.codes or ())]
    display = next((display for of, one, display in listed if (of, one) == key), None)
    return None if display is None else [display, *(one.value for one in made.designations.get(key, ()))]


def _versions(made: ValueSet, versions: Versions) -> dict[str, str]:
    """Of each system the version that its codes were taken from; none where they were taken from several."""
    found: dict[str, set[str | None]] = {}
    for include in made.include:
        if include.system is not None:
            found.setdefault(include.system, set()).add(versions.of(include.system, include.version))
    return {system: next(iter(of)) or "" for system, of in found.items() if len(of) == 1}


@contextmanager
def _expanding() -> Iterator[None]:
    try:
        yield
    except Unreadable as error:
        raise Invalid(f"the value set cannot be expanded here: {error}", at=error.at or "ValueSet") from error


def _unknown(url: str) -> NotFound:
    return NotFound(f"the value set {url[:200]} is not known here; load it or create it", at="url")


def _told(canonical: str) -> Mapping[str, Any]:
    url, _, version = canonical.partition("|")
    return {"url": url, **({"version": version} if version else {})}
