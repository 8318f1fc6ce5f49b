"""What the references of a transaction mean: entries of the Bundle, what is stored, and which version of it.

In:      the entries, their Resolution so far, what conditional references match
Out:     Resolution.mapping and .bases
Means:   a reference means the entry whose fullUrl it is, a relative one by the base of its own entry's fullUrl; a
         versioned one the version that will stand; a conditional one what matches when all is written, what the
         entries bring included
Errors:  Invalid             a urn that is no entry, two entries of one fullUrl, or of one identity
         PreconditionFailed  a conditional reference that matches none or many
Source:  FHIR R4 3.1.0.11.2 (references, conditional references), 2.36.4.1 resolving references in Bundles
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from ehr.errors import Invalid, PreconditionFailed
from ehr.fhir import codec, references
from ehr.store import criteria
from ehr.store.body import BodyCodec
from ehr.store.bundle_entries import Entry
from ehr.store.criteria import Criteria
from ehr.store.version import Version

if TYPE_CHECKING:
    from ehr.store.bundle_resolution import Resolution


class Loose(msgspec.Struct, frozen=True):
    """A reference of an entry that must be resolved: by its condition, or (named is None) a urn or a versioned one."""

    entry: Entry
    text: str
    named: Criteria | None

    @property
    def at(self) -> str:
        return _place(self.entry, self.text)

    @property
    def is_versioned(self) -> bool:
        return self.named is None and references.VERSION in self.text


def loose_of(entry: Entry) -> list[Loose]:
    found = []
    for text in entry.loose:
        if text.startswith(references.URNS):
            found.append(Loose(entry, text, None))
            continue
        parsed = references.parse(text)
        if parsed.version:
            found.append(Loose(entry, text, None))
        elif parsed.kind == "conditional" and parsed.type:
            found.append(Loose(entry, text, criteria.parse(parsed.type, text, _place(entry, text))))
    return found


def _place(entry: Entry, text: str) -> str:
    """Where an entry's resource has this reference first; of a patch, the entry."""
    if entry.resource is None:
        return f"{entry.at}.resource"
    path = next(found.path for found in references.find(entry.resource) if found.value == text)
    return f"{entry.at}.resource{path.removeprefix(entry.type_name)}"


def base_of(entry: Entry) -> str | None:
    """https://host/fhir of the fullUrl https://host/fhir/Patient/1."""
    sent = entry.full_url
    return references.parse(sent).base if sent and sent.startswith("http") else None


def spelled(asked: Criteria) -> str:
    return f"{asked.type_name}?{asked.key}"


class Brought:
    """The identifiers of what the entries write: what will match when all is written."""

    def __init__(self, entries: Iterable[Entry], resolution: "Resolution") -> None:
        self.literal_of = resolution.literal_of
        self._entries: dict[tuple[str, str, str], list[Entry]] = {}
        self._replaced: set[str] = set()
        for entry in entries:
            if entry.at not in resolution.writes or entry.method == "PATCH":
                continue
            self._replaced.add(resolution.literal_of(entry))
            for system, value in criteria.identifiers(entry.resource or {}):
                self._entries.setdefault((entry.type_name, system, value), []).append(entry)

    def by(self, asked: Criteria) -> list[Entry]:
        """Entries that write what these criteria match; only one exact identifier is looked for."""
        return self._entries.get((asked.type_name, *asked.identifier), []) if asked.identifier else []

    def referents(self, named: Criteria, stored: Iterable[Version]) -> list[str]:
        """What a conditional reference means, beside and instead of what is stored."""
        kept = [version.reference for version in stored if version.reference not in self._replaced]
        return list(dict.fromkeys([*kept, *map(self.literal_of, self.by(named))]))


def refuse_shared(conditional: Iterable[Entry], brought: Brought) -> None:
    """What one entry asks for by identifier and another one brings would stand twice: neither may vanish silently."""
    for entry in conditional:
        if entry.criteria is None or entry.method == "DELETE":
            continue
        for other in brought.by(entry.criteria):
            if brought.literal_of(other) != brought.literal_of(entry):
                raise Invalid(f"{other.at} brings the identifier of these criteria", at=entry.at)


def map_references(
    entries: Iterable[Entry],
    loose: Iterable[Loose],
    resolution: "Resolution",
    referents: Callable[[Criteria], list[str]],
) -> None:
    """fullUrls mean their entries, conditional references what matches; a urn must be an entry of the Bundle."""
    _map_full_urls(entries, resolution)
    for one in loose:
        if one.entry.at not in resolution.writes or one.text in resolution.mapping or one.is_versioned:
            continue
        if one.named is None:
            raise Invalid("the reference names no entry of the Bundle (fullUrl)", at=one.at)
        here = resolution.mapping.get(spelled(one.named))
        resolution.mapping[one.text] = here or _only(one, referents(one.named))
    for base, own in resolution.bases.items():
        resolution.bases[base] = resolution.mapping | own


def _map_full_urls(entries: Iterable[Entry], resolution: "Resolution") -> None:
    for entry in entries:
        if entry.method not in ("POST", "PUT"):
            continue
        literal = resolution.literal_of(entry)
        sent = entry.full_url
        if sent and sent != literal and resolution.mapping.setdefault(sent, literal) != literal:
            raise Invalid("two entries have this fullUrl", at=f"{entry.at}.fullUrl")
        base = base_of(entry)
        if sent and base:
            resolution.bases.setdefault(base, {})[sent.removeprefix(f"{base}/")] = literal
        if entry.criteria is not None:
            resolution.mapping[spelled(entry.criteria)] = literal


def _only(one: Loose, meant: list[str]) -> str:
    if len(meant) != 1:
        many = "more than one resource" if meant else "no resource"
        raise PreconditionFailed(f"the conditional reference matches {many}", at=one.at)
    return meant[0]


def map_versions(entries: Iterable[Entry], loose: Iterable[Loose], resolution: "Resolution", bodies: BodyCodec) -> None:
    """References to a version of an entry name the version that will stand; those to anything else stay."""
    versioned = [one for one in loose if one.is_versioned and one.entry.at in resolution.writes]
    if not versioned:
        return
    written = {resolution.literal_of(entry): entry for entry in entries if entry.method in ("POST", "PUT", "PATCH")}
    for one in versioned:
        mapping = resolution.mapping_of(one.entry)
        literal = mapping.get(one.text.partition(references.VERSION)[0])
        if literal in written:
            mapping[one.text] = f"{literal}{references.VERSION}{_version_of(written[literal], resolution, bodies)}"
        elif one.text.startswith("urn:"):
            raise Invalid("the reference names no entry of the Bundle (fullUrl)", at=one.at)


def _version_of(entry: Entry, resolution: "Resolution", bodies: BodyCodec) -> int:
    """The version of an entry's resource when the transaction is done."""
    if entry.at in resolution.existing:
        return resolution.existing[entry.at].version
    key = (entry.type_name, resolution.writes[entry.at].id)
    before = resolution.holding.current.get(key)
    if before is None:
        tombstone = resolution.holding.tombstones.get(key)
        return tombstone.version + 1 if tombstone else 1
    if entry.resource is not None:
        tree = resolution.rewritten(entry, entry.resource)
        new = codec.with_meta(None, tree, id=key[1], version=before.version, updated=before.updated)
        if new == resolution.holding.text(key, bodies):
            return before.version
    return before.version + 1
