"""A naive answer to the same queries: every resource is looked at, with nothing shared with the index but the texts.

Kept apart on purpose: dates are compared as datetimes, strings by unicodedata, numbers as Decimal.
"""

import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

Tree = Mapping[str, Any]


def bare(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(sign for sign in decomposed if unicodedata.category(sign) != "Mn").replace("đ", "d")


def token(codings: list[Mapping[str, Any]], wanted: str) -> bool:
    """code, system|code, |code or system|"""
    system, bar, code = wanted.rpartition("|")
    for one in codings:
        given = (one.get("system"), one.get("code") or one.get("value"))
        if not bar:
            found = given[1] == code
        elif not code:
            found = given[0] == system
        else:
            found = given == (system or None, code)
        if found:
            return True
    return False


def span(text: str) -> tuple[datetime, datetime]:
    """First moment and the first moment after, in Ha Noi where no zone is given."""
    zone = "+07:00"
    if len(text) == 4:
        return datetime.fromisoformat(f"{text}-01-01T00:00{zone}"), datetime.fromisoformat(
            f"{int(text) + 1}-01-01T00:00{zone}"
        )
    if len(text) == 7:
        year, month = int(text[:4]), int(text[5:])
        after = f"{year + month // 12}-{month % 12 + 1:02}"
        return datetime.fromisoformat(f"{text}-01T00:00{zone}"), datetime.fromisoformat(f"{after}-01T00:00{zone}")
    if len(text) == 10:
        first = datetime.fromisoformat(f"{text}T00:00{zone}")
        return first, first + timedelta(days=1)
    first = datetime.fromisoformat(text)
    return first, first + timedelta(seconds=1)


FIRST, LAST = datetime.fromisoformat("0001-01-02T00:00+00:00"), datetime.fromisoformat("9999-12-30T00:00+00:00")


NEVER = datetime.fromisoformat("0001-01-01T00:00+00:00")


def dated(tree: Tree) -> tuple[datetime, datetime] | None:
    if "effectiveDateTime" in tree:
        return span(tree["effectiveDateTime"])
    if "effectivePeriod" in tree:
        period = tree["effectivePeriod"]
        return (
            span(period["start"])[0] if "start" in period else FIRST,
            span(period["end"])[1] if "end" in period else LAST,
        )
    return None


def date(tree: Tree, wanted: str) -> bool:
    """The wording of R4 3.1.1.4.5, on half-open ranges; above a value is "the specified value and up"."""
    found = dated(tree)
    if found is None:
        return False
    prefix, text = (wanted[:2], wanted[2:]) if wanted[:2].isalpha() else ("eq", wanted)
    low, high = found
    first, after = span(text)
    contained = first <= low and high <= after
    return {
        "eq": contained,
        "ne": not contained,
        "gt": high > after,
        "lt": low < first,
        "ge": high > first,
        "le": low < after,
        "sa": low >= after,
        "eb": high <= first,
    }[prefix]


GRAMS = {"kg": Decimal(1000), "g": Decimal(1), "mg": Decimal("0.001")}


def number(values: list[Mapping[str, Any]], wanted: str) -> bool:
    """digits, digits||unit, or digits|UCUM|unit: a mass in whatever unit."""
    prefix, text = (wanted[:2], wanted[2:]) if wanted[:2].isalpha() else ("eq", wanted)
    digits, system, unit = text.split("|") if "|" in text else (text, "", "")
    asked = Decimal(digits)
    half = abs(asked) / 10 if prefix == "ap" else Decimal(1).scaleb(int(asked.as_tuple().exponent)) / 2
    for one in values:
        value = Decimal(str(one["value"]))
        if system:
            value = value * GRAMS[one["code"]] / GRAMS[unit]
        elif unit and unit not in {one.get("code"), one.get("unit")}:
            continue
        if {
            "eq": asked - half <= value < asked + half,
            "ne": not asked - half <= value < asked + half,
            "gt": value > asked,
            "lt": value < asked,
            "ge": value >= asked,
            "le": value <= asked,
            "sa": value > asked,
            "eb": value < asked,
            "ap": asked - half <= value <= asked + half,
        }[prefix]:
            return True
    return False


def texts(concept: Mapping[str, Any]) -> list[str]:
    """Everything a concept goes by."""
    found = [one["display"] for one in concept["coding"] if "display" in one]
    return [*found, concept["text"]] if "text" in concept else found


def names(tree: Tree) -> list[str]:
    found = []
    for name in tree.get("name", []):
        given = name.get("given", [])
        found += [name["family"], *given, " ".join([name["family"], *given]), " ".join([*given, name["family"]])]
    return found


Check = Callable[[Tree, str, Mapping[str, Tree]], bool]


def _subject(tree: Tree, world: Mapping[str, Tree]) -> Tree:
    return world.get(tree.get("subject", {}).get("reference", ""), {})


def _components(tree: Tree) -> list[Mapping[str, Any]]:
    return list(tree.get("component", []))


CHECKS: dict[tuple[str, str], Check] = {
    ("Patient", "identifier"): lambda t, v, _: token(t.get("identifier", []), v),
    ("Patient", "identifier:missing"): lambda t, v, _: ("identifier" not in t) == (v == "true"),
    ("Patient", "gender"): lambda t, v, _: t.get("gender") == v,
    ("Patient", "gender:not"): lambda t, v, _: t.get("gender") != v,
    ("Patient", "name"): lambda t, v, _: any(bare(name).startswith(bare(v)) for name in names(t)),
    ("Patient", "name:contains"): lambda t, v, _: any(bare(v) in bare(name) for name in names(t)),
    ("Patient", "name:exact"): lambda t, v, _: v in [x for n in t.get("name", []) for x in (n["family"], *n["given"])],
    ("Patient", "_has:Observation:patient:code"): lambda t, v, w: any(
        one["resourceType"] == "Observation"
        and one.get("subject") == {"reference": f"Patient/{t['id']}"}
        and token(one["code"]["coding"], v)
        for one in w.values()
    ),
    ("Observation", "code"): lambda t, v, _: token(t["code"]["coding"], v),
    ("Observation", "code:text"): lambda t, v, _: any(bare(text).startswith(bare(v)) for text in texts(t["code"])),
    ("Observation", "code:not"): lambda t, v, _: not token(t["code"]["coding"], v),
    ("Observation", "combo-code"): lambda t, v, _: token(
        [coding for one in (t, *_components(t)) for coding in one["code"]["coding"]], v
    ),
    ("Observation", "patient"): lambda t, v, _: t.get("subject") == {"reference": f"Patient/{v}"},
    ("Observation", "subject"): lambda t, v, _: t.get("subject", {}).get("reference") == v,
    ("Observation", "subject:missing"): lambda t, v, _: ("subject" not in t) == (v == "true"),
    ("Observation", "date"): lambda t, v, _: date(t, v),
    ("Observation", "value-quantity"): lambda t, v, _: number([t["valueQuantity"]] if "valueQuantity" in t else [], v),
    ("Observation", "component-code-value-quantity"): lambda t, v, _: any(
        token(one["code"]["coding"], v.split("$")[0]) and number([one["valueQuantity"]], v.split("$")[1])
        for one in _components(t)
    ),
    ("Observation", "patient.gender"): lambda t, v, w: _subject(t, w).get("gender") == v,
    ("Observation", "subject:Patient.name"): lambda t, v, w: any(
        bare(name).startswith(bare(v)) for name in names(_subject(t, w))
    ),
}


def answer(world: Mapping[str, Tree], type_name: str, query: list[tuple[str, str]]) -> list[str]:
    """Ids in the order the resources were written; by one code with its system alone, the newest first."""
    found = [
        tree
        for tree in world.values()
        if tree["resourceType"] == type_name
        and all(_any(CHECKS[type_name, name], tree, value, world, name) for name, value in query)
    ]
    if by_code_alone(query, "code"):
        found.reverse()
        found.sort(key=lambda tree: span_of(tree)[0], reverse=True)
    return [tree["id"] for tree in found]


def by_code_alone(query: list[tuple[str, str]], asked: str) -> bool:
    (name, value), *others = query
    code = value.rpartition("|")[2]
    return not others and name == asked and "|" in value and "," not in value and bool(code)


def span_of(tree: Tree) -> tuple[datetime, datetime]:
    """What has no date comes after what has one, however old."""
    return dated(tree) or (NEVER, NEVER)


def _any(check: Check, tree: Tree, value: str, world: Mapping[str, Tree], name: str) -> bool:
    """Commas are an OR; of a negation, none may match."""
    found = [check(tree, one, world) for one in value.split(",")]
    return all(found) if name.endswith(":not") else any(found)
