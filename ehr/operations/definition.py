"""The definition an operation is asked of: a CodeSystem, ValueSet or ConceptMap that is stored here, or was sent.

In:      the id of one here, its canonical url, or the resource itself: one of the three
Out:     its tree; None where no stored one has the url
Errors:  Malformed        none is named, or several ways at once
         NotFound         no such id
         InvalidResource  what was sent breaks R4
         Invalid          it is FHIR, and says nothing that can be worked with
Source:  FHIR R4 operations.html#executing, references.html#canonical
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ehr.errors import Invalid, Malformed
from ehr.fhir import codec
from ehr.ids import new_id
from ehr.store import gate
from ehr.store.canonicals import Canonicals
from ehr.store.unit_of_work import UnitOfWork
from terminology import read_fhir
from terminology.errors import Unreadable
from terminology.resources import Loadable

UNNAMED: Final = "urn:uuid:"
"""How the url of a definition that has none begins."""


@dataclass(frozen=True, slots=True)
class Named:
    """One of the three."""

    id: str | None = None
    url: str | None = None
    tree: Mapping[str, Any] | None = None

    @property
    def ways(self) -> int:
        return sum(one is not None for one in (self.id, self.url, self.tree))

    def require(self, what: str) -> None:
        """what: the parameter that takes the resource itself."""
        if self.ways != 1:
            raise Malformed(f"name one: by the address, by url, or as {what}", at="url")


def canonical(url: str | None, version: str | None, at: str) -> str | None:
    """url and version of two parameters in one; who says it twice must not contradict."""
    if url is None or version is None:
        if version is not None:
            raise Malformed("a version is one of what url names", at=at)
        return url
    name, _, said = url.partition("|")
    if said and said != version:
        raise Malformed(f"url names the version {said[:64]}, and {at} another one", at=at)
    return f"{name}|{version}"


def read(tree: Mapping[str, Any]) -> Loadable:
    """What it says, also where it has no url. Invalid: nothing that can be worked with."""
    try:
        return read_fhir.read(codec.dumps({"url": UNNAMED + new_id(), **tree}))[0]
    except Unreadable as error:
        type_name = str(tree.get("resourceType"))
        raise Invalid(f"nothing can be told by this {type_name}: {error}", at=error.at or type_name) from error


async def definition(uow: UnitOfWork, type_name: str, named: Named) -> Mapping[str, Any] | None:
    if named.tree is not None:
        gate.check(type_name, named.tree)
        return named.tree
    if named.id is not None:
        version = await uow.resources.read(type_name, named.id)
        assert version.body is not None, "a read has a body"
        return codec.loads(version.body)
    assert named.url is not None, "one is named"
    if uow.access.person_id is not None and type_name not in uow.access.open_types:
        return None
    body = await Canonicals.within(uow).follow(type_name, named.url)
    return None if body is None else codec.loads(body)
