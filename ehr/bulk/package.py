"""A package of a guide → its profiles, value sets, code systems and concept maps, stored as resources.

In:      folders and .tgz files as npm has them, or single JSON files
Out:     Loaded: how many were stored, stood already, or were refused, and why
Keeps:   one id for one canonical URL and version, so that versions of a guide stand beside each other and loading the
         same package again changes nothing
Errors:  NotFound, Invalid  no such path; no package, or one of another FHIR version
Source:  FHIR NPM package specification (hl7.org/fhir/packages): package/*.json, package.json with fhirVersions
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import orjson

from ehr import limits
from ehr.access.policy import Caller
from ehr.errors import Invalid, Issue, NotFound, Refused
from ehr.fhir import codec
from ehr.store import gate
from ehr.store.record import Record
from ehr.store.resources import Write
from ehr.store.unit_of_work import UnitOfWork

TYPES: Final = frozenset({"StructureDefinition", "ValueSet", "CodeSystem", "ConceptMap"})
_AT_ONCE: Final = 50
"""Resources of one transaction: some megabytes of snapshots."""
_CONTENT: Final = "package/"
_MANIFEST: Final = "package.json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One resource that was not stored."""

    file: str
    issues: list[Issue]


@dataclass(slots=True)
class Loaded:
    """What became of one path. needs: packages that its manifest names."""

    path: str
    stored: int = 0
    unchanged: int = 0
    needs: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)


async def load(record: Record, path: Path) -> Loaded:
    """Store what is in a package; what is refused does not keep the rest from being stored."""
    loaded = Loaded(path.name)
    waiting: list[tuple[str, dict[str, Any]]] = []
    for name, body in files_of(path):
        if Path(name).name == _MANIFEST:
            loaded.needs = _needs(name, body)
            continue
        tree = _definition(loaded, name, body)
        if tree is not None:
            waiting.append((name, tree))
        if len(waiting) == _AT_ONCE:
            await _store(record, loaded, waiting)
            waiting = []
    if waiting:
        await _store(record, loaded, waiting)
    return loaded


def files_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """The JSON files of a package, its manifest first; examples lie deeper and are left."""
    if path.is_dir():
        inner = path / _CONTENT
        folder = inner if inner.is_dir() else path
        for file in sorted(folder.glob("*.json"), key=lambda one: (one.name != _MANIFEST, one.name)):
            yield file.name, file.read_bytes()
    elif path.suffix in (".tgz", ".gz"):
        yield from _unpacked(path)
    elif path.is_file():
        yield path.name, path.read_bytes()
    else:
        raise NotFound(f"no file or folder {path.name}")


def _unpacked(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as packed:
            for member in packed:
                name = member.name.removeprefix(_CONTENT)
                content = packed.extractfile(member) if member.isfile() and name != member.name else None
                if content is not None and name.endswith(".json") and "/" not in name:
                    yield name, content.read(limits.resource_bytes_max + 1)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise NotFound(f"no file or folder {path.name}") from error
        raise Invalid(f"{path.name} is not a whole .tgz package") from error


def _needs(name: str, body: bytes) -> list[str]:
    try:
        manifest = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"{name} is not JSON: {error}") from error
    versions = manifest.get("fhirVersions", manifest.get("fhir-version-list", ["4.0.1"]))
    if not any(str(version).startswith("4.0") for version in versions):
        raise Invalid(f"the package is of FHIR {', '.join(map(str, versions))}, and this is R4 (4.0.1)", at=name)
    return [f"{package} {version}" for package, version in manifest.get("dependencies", {}).items()]


def _definition(loaded: Loaded, name: str, body: bytes) -> dict[str, Any] | None:
    """A resource to be stored; None for what a package has beside them, and for what is refused."""
    try:
        tree = codec.loads(body)
        if tree.get("resourceType") not in TYPES or tree.get("kind") == "logical":
            return None
        named = tree.get("url") or f"{tree['resourceType']}/{tree.get('id')}"
        canonical = f"{named}|{tree.get('version', '')}"
        tree = {**tree, "id": str(uuid5(NAMESPACE_URL, canonical))}
        gate.check(tree["resourceType"], tree)
    except Refused as error:
        loaded.refused.append(Refusal(name, error.issues))
        return None
    return tree


async def _store(record: Record, loaded: Loaded, waiting: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Together; one by one where one of them is refused, as when it breaks a profile it claims."""
    try:
        await _store_together(record, loaded, waiting)
    except Refused as error:
        if len(waiting) == 1:
            loaded.refused.append(Refusal(waiting[0][0], error.issues))
            return
        for one in waiting:
            await _store(record, loaded, [one])


async def _store_together(record: Record, loaded: Loaded, waiting: Sequence[tuple[str, dict[str, Any]]]) -> None:
    async def work(uow: UnitOfWork) -> tuple[int, int]:
        asked = [Write("U", tree["resourceType"], tree["id"], None, tree) for _, tree in waiting]
        written = await uow.resources.apply(asked)
        changed = sum(one.changed for one in written)
        return changed, len(written) - changed

    stored, unchanged = await record.write(Caller.system("profile load"), work)
    loaded.stored += stored
    loaded.unchanged += unchanged
