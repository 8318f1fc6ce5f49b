"""Lay what a message states over what the record already holds, so that order and silence do no harm.

In:      the Bundle of a mapper; the earlier versions of its conditional updates, as the record holds them locked
Out:     for each entry that has an earlier version the resource to be written: the two woven together
Rules:   an empty field of a message means "unchanged" (HL7 2.5.3.6): Patient, Encounter, RelatedPerson and Coverage
         keep what the newer message does not mention; what the sender erased ("") goes
         a message that speaks of an earlier moment than the record's version changes nothing that is there, and
         fills in only what is not
         the state of an Encounter (status, end, discharge) is that of the newest message that stated one
         of two links to one other patient the newer holds
         results, orders and the rest are restated whole by each message; a late one is left out, but a report keeps
         every result that was sent under it, since laboratories send the one they corrected, or each when it is ready
Source:  docs/adr/0034 (reordered messages end in the same state); HL7 v2.5.1 2.5.3.6, 2.10.4
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from adapters.draft import DEFERS, ERASES, Tree
from adapters.moments import earlier
from adapters.systems import MESSAGE_TIME, NULL_FLAVOR, STATE_TIME
from ehr.intake import Held

KEPT_TYPES: Final = frozenset({"Patient", "Encounter", "RelatedPerson", "Coverage", "DocumentReference"})
"""Whose elements a later message may leave out without meaning that they are gone."""
UNITED: Final = ("identifier", "link")
"""Lists that only grow: a number once sent is not taken back by a message without it."""
CHOICES: Final = (("deceasedBoolean", "deceasedDateTime"), ("multipleBirthBoolean", "multipleBirthInteger"))
"""That it is so, and when, or which: one element in FHIR."""
OPEN_STATES: Final = frozenset({"planned", "arrived", "triaged", "in-progress", "onleave"})
"""States of a visit that has no end yet."""
ENDS: Final = frozenset({"period.end", "hospitalization.dischargeDisposition"})
"""What an open visit does not have, unless its newest message says so."""


def weave(bundle: Mapping[str, Any], held: Mapping[int, Held]) -> tuple[dict[int, Tree], int]:
    """The resources to be written, and how many of them came late. held: place of an entry → what the record holds."""
    references = {bundle["entry"][place]["fullUrl"]: f"{found.type_name}/{found.id}" for place, found in held.items()}
    late = 0
    woven = {}
    for place, found in held.items():
        sent = bundle["entry"][place]
        notes = sent.get("extension", ())
        came_late = _late(sent["resource"], found.tree)
        late += came_late
        said = Said(
            late=came_late,
            deferred=frozenset(note["valueString"] for note in notes if note["url"] == DEFERS),
            erased=frozenset(note["valueString"] for note in notes if note["url"] == ERASES),
        )
        woven[place] = {**_woven(sent["resource"], found.tree, references, said), "id": found.id}
    return woven, late


def _late(incoming: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    mine, theirs = _moment(incoming), _moment(held)
    return mine is not None and theirs is not None and earlier(mine, theirs)


def _moment(tree: Mapping[str, Any], url: str = MESSAGE_TIME) -> str | None:
    for extension in tree.get("meta", {}).get("extension", ()):
        if extension.get("url") == url:
            return str(extension["valueDateTime"])
    return None


@dataclass(frozen=True, slots=True)
class Said:
    """How the newer message means what it says of one resource."""

    late: bool
    deferred: frozenset[str]
    erased: frozenset[str]


def _woven(incoming: Tree, held: Mapping[str, Any], references: Mapping[str, str], said: Said) -> Tree:
    earlier_tree = {name: value for name, value in held.items() if name != "meta"}
    kept_meta = {
        name: value for name, value in held.get("meta", {}).items() if name not in ("versionId", "lastUpdated")
    }
    if incoming["resourceType"] not in KEPT_TYPES:
        whole = {**earlier_tree, **({"meta": kept_meta} if kept_meta else {})} if said.late else dict(incoming)
        if "result" in held:
            whole["result"] = _united(held["result"], incoming.get("result", []), references)
        return whole
    if said.late:
        told = {name: value for name, value in earlier_tree.items() if not (name in incoming and _unsaid(value))}
        below, above = incoming, {**told, **({"meta": kept_meta} if kept_meta else {})}
    else:
        below, above = (
            _without(earlier_tree, said.erased),
            {
                name: value
                for name, value in incoming.items()
                if name not in said.deferred or _open(earlier_tree.get(name))
            },
        )
    below, above = _chosen(below, above)
    woven = {**below, **above}
    for name in UNITED:
        if name in below and name in above:
            woven[name] = _united(above[name], below[name], references)
    if "period" in below and "period" in above:
        woven["period"] = {**below["period"], **above["period"]}
    if "diagnosis" in below and "diagnosis" in above:
        woven["diagnosis"] = _diagnoses(above["diagnosis"], below["diagnosis"], references)
    if "extension" in below and "extension" in above:
        mine = {extension["url"] for extension in above["extension"]}
        woven["extension"] = [*above["extension"], *(e for e in below["extension"] if e["url"] not in mine)]
    return _in_state(woven, incoming, held, said) if incoming["resourceType"] == "Encounter" else woven


def _chosen(below: Mapping[str, Any], above: Mapping[str, Any]) -> tuple[Tree, Tree]:
    """Each choice said once: by what is above, unless that says no more than what is below."""
    under, over = dict(below), dict(above)
    for plain, exact in CHOICES:
        if over.get(plain) is True and exact in under:
            del over[plain]
        if plain in over:
            under.pop(exact, None)
        if exact in over or exact in under:
            under.pop(plain, None)
    return under, over


def _open(value: Any) -> bool:
    """Nothing is there that a default would have to give way to."""
    return value is None or value == "unknown" or _unsaid(value)


def _unsaid(value: Any) -> bool:
    """A code that is there because one must be."""
    return isinstance(value, dict) and value.get("system") == NULL_FLAVOR


def _in_state(woven: Tree, incoming: Tree, held: Mapping[str, Any], said: Said) -> Tree:
    """A visit in the state of the newest message that stated one, whatever came between and however late it came."""
    theirs = _moment(held, STATE_TIME)
    if "status" in said.deferred:
        if theirs is None:
            return woven
        moment, stating = _moment(incoming), held
        settled = moment is None or not earlier(moment, theirs)
    else:
        mine = _moment(incoming, STATE_TIME)
        stating = held if mine is not None and theirs is not None and earlier(mine, theirs) else incoming
        settled = False
    result = {**woven, "status": stating["status"]}
    if result["status"] in OPEN_STATES and not settled:
        result = _without(result, ENDS - _ends_of(stating))
    return _dated(result, _moment(stating, STATE_TIME))


def _ends_of(visit: Mapping[str, Any]) -> frozenset[str]:
    """What of an end a visit has of its own."""
    parts = (name.split(".") for name in ENDS)
    return frozenset(f"{parent}.{child}" for parent, child in parts if child in visit.get(parent, {}))


def _dated(visit: Tree, moment: str | None) -> Tree:
    """With the moment at which its state was stated."""
    others = [e for e in visit.get("meta", {}).get("extension", ()) if e.get("url") != STATE_TIME]
    stamp = [{"url": STATE_TIME, "valueDateTime": moment}] if moment else []
    meta = {**visit.get("meta", {}), "extension": [*others, *stamp]}
    return {**visit, "meta": {name: value for name, value in meta.items() if value}}


def _without(tree: Tree, erased: frozenset[str]) -> Tree:
    result = {name: value for name, value in tree.items() if name not in erased}
    for name in erased:
        parent, dot, child = name.partition(".")
        if dot and isinstance(result.get(parent), dict):
            result[parent] = {key: value for key, value in result[parent].items() if key != child}
            if not result[parent]:
                del result[parent]
    return result


def _united(above: list[Tree], below: list[Tree], references: Mapping[str, str]) -> list[Tree]:
    """Both lists, above first; two items are one when system and value, or what they refer to, agree."""

    def name_of(item: Tree) -> tuple[Any, ...]:
        other = item.get("other", item).get("reference")
        return item.get("system"), item.get("value"), references.get(other, other)

    names = {name_of(item) for item in above}
    return [*above, *(item for item in below if name_of(item) not in names)]


def _diagnoses(above: list[Tree], below: list[Tree], references: Mapping[str, str]) -> list[Tree]:
    """The newer diagnoses of each use, and the older ones of uses the newer message does not speak of."""

    def use_of(item: Tree) -> str:
        return next((coding["code"] for coding in item.get("use", {}).get("coding", ())), "")

    def condition_of(item: Tree) -> str:
        url = str(item["condition"].get("reference"))
        return references.get(url, url)

    uses = {use_of(item) for item in above}
    conditions = {condition_of(item) for item in above}
    kept = [item for item in below if use_of(item) not in uses and condition_of(item) not in conditions]
    return [*above, *kept]
