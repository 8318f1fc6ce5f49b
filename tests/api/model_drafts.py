"""Interactions as hypothesis draws them: over few resources, few identifiers and few words, so that they meet.

In:      nothing of the state: a Draft names places, and says "current" where it means a version
Out:     Drafts; asked() makes an Ask of one, once the state is known
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from tests.api.model import REFERENCES, Ask, Key, State, Tree, Version

Pairs = tuple[tuple[str, str], ...]
TYPES = ("Patient", "Observation", "Organization")
CHOSEN = 3
"""So many ids of each type that the client chooses; places after them are the server's."""
PLACES = st.sampled_from([0, 0, 1, 1, 2, 3, 4, 5])
NUMBERS = st.sampled_from(["1", "2", "3", "4", "5"])
FAMILIES = ("An", "Binh")


@dataclass(frozen=True)
class Draft:
    """One interaction. content: of a POST or PUT. change: of a PATCH."""

    method: str
    type: str
    place: int | None
    condition: Pairs
    content: tuple[tuple[str, Any], ...]
    change: tuple[str, Any]
    by_path: bool
    if_match: str
    only_new: bool
    body_id: int | None
    vid: int | None
    calm: bool


def conditions() -> st.SearchStrategy[Pairs]:
    """Mostly one identifier. # stands for the system of this run."""
    one = NUMBERS.map(lambda number: (("identifier", f"#|{number}"),))
    some = st.sampled_from(
        [
            (("identifier", "#|1,#|2"),),
            (("family", "An#"),),
            (("family", "Binh#"), ("gender", "female")),
            (("identifier", "#|1"), ("active", "true")),
            (("birthdate", "ge1985-01-01"), ("family", "An#")),
            (("organization", "Organization/#-a,Organization/#-b"),),
            (("family", "An#,Binh#"), ("birthdate:missing", "true")),
            (("organization.identifier", "#|1,#|2"), ("family", "An#")),
            (("_has:Observation:subject:status", "final"), ("family", "An#,Binh#")),
        ]
    )
    return st.one_of(one, one, one, some)


def contents(kind: str) -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
    """Elements in the order of the definition; a reference is (kind, place or number)."""
    few = st.lists(NUMBERS, min_size=1, max_size=2, unique=True).map(tuple)
    numbers = st.one_of(NUMBERS.map(lambda number: (number,)), few)
    reference = st.one_of(
        st.none(),
        st.tuples(st.just("literal"), PLACES),
        st.tuples(st.just("literal"), PLACES),
        st.tuples(st.just("entry"), st.integers(0, 4)),
        st.tuples(st.just("condition"), NUMBERS),
    )
    fields: dict[str, st.SearchStrategy[Any]] = {"identifier": numbers}
    if kind == "Patient":
        fields |= {
            "active": st.sampled_from([None, True, False]),
            "name": st.sampled_from(FAMILIES),
            "gender": st.sampled_from([None, "female", "male"]),
            "birthDate": st.sampled_from([None, "1980-01-02", "1990-05-06"]),
            "managingOrganization": reference,
        }
    elif kind == "Observation":
        fields |= {
            "status": st.sampled_from(["final", "amended"]),
            "code": st.just({"text": "x"}),
            "subject": reference,
        }
    else:
        fields |= {"name": st.sampled_from(["Trạm y tế", "Bệnh viện"])}
    return st.tuples(*fields.values()).map(lambda drawn: tuple(zip(fields, drawn, strict=True)))


CHANGES: Mapping[str, Sequence[tuple[str, Any]]] = {
    "Patient": [
        ("active", True),
        ("active", None),
        ("gender", "female"),
        ("birthDate", "1990-05-06"),
        ("gender", None),
    ],
    "Observation": [("status", "amended"), ("status", "final"), ("subject", None)],
    "Organization": [("active", True), ("active", None), ("name", "Bệnh viện")],
}


@st.composite
def drafts(
    draw: st.DrawFn, methods: Sequence[str] = ("POST", "PUT", "PUT", "PATCH", "DELETE"), *, calm: bool = False
) -> Draft:
    """calm: seldom something that must be refused, so that a Bundle of several is done now and then."""
    method, kind = (
        draw(st.sampled_from(methods)),
        draw(st.sampled_from(("Patient", "Patient", "Observation", TYPES[2]))),
    )
    conditional = draw(st.integers(0, 2)) == 0 and (kind == "Patient" or method not in ("GET", "HEAD"))
    condition = _fit(kind, draw(conditions())) if conditional else ()
    content = draw(contents(kind)) if method in ("POST", "PUT") else ()
    unruly = not calm or draw(st.integers(0, 7)) == 0
    if content and condition and not unruly:
        content = _found_by(condition, content)
    return Draft(
        method=method,
        type=kind,
        place=None if method == "POST" or conditional else draw(PLACES),
        condition=condition,
        content=content,
        change=draw(st.sampled_from(CHANGES[kind])),
        by_path=draw(st.booleans()),
        if_match=draw(st.sampled_from(["", "", "", "", "current", "strong", "stale", "any", "both"])) if unruly else "",
        only_new=unruly and method == "PUT" and draw(st.integers(0, 7)) == 0,
        body_id=draw(st.sampled_from([None, None, 0, 1])) if conditional and unruly else None,
        vid=draw(st.sampled_from([None, None, 1, 2, 3, 9])) if unruly else None,
        calm=not unruly,
    )


def _found_by(condition: Pairs, content: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    """The content with the identifier that is asked for."""
    name, value = condition[0]
    numbers = dict(content)["identifier"]
    if name == "identifier" and "," not in value:
        numbers = tuple(dict.fromkeys([value.removeprefix("#|"), *numbers[1:]]))
    return tuple((name, numbers if name == "identifier" else held) for name, held in content)


def _fit(kind: str, condition: Pairs) -> Pairs:
    """Only a Patient has the other parameters."""
    if kind == "Patient" or (len(condition) == 1 and condition[0][0] == "identifier"):
        return condition
    return (("identifier", "#|1"),)


@dataclass
class Namespace:
    """The ids, the system and the words of one run, and the ids that the server chose in it."""

    run: str
    made: dict[str, list[str]]

    @property
    def system(self) -> str:
        return f"urn:run:{self.run}"

    def key(self, kind: str, place: int) -> Key:
        made = self.made[kind]
        if place >= CHOSEN and len(made) > place - CHOSEN:
            return kind, made[-1 - (place - CHOSEN)]
        return kind, f"{self.run}-{'abc'[place % CHOSEN]}"

    def query(self, condition: Sequence[tuple[str, str]]) -> str:
        pairs = [(name, value.replace("#|", f"{self.system}|").replace("#", self.run)) for name, value in condition]
        return "&".join(f"{name}={quote(value, safe='|:,')}" for name, value in pairs)

    def tree(self, kind: str, content: Sequence[tuple[str, Any]], id: str | None, urns: Sequence[str]) -> Tree:
        """urns: fullUrls of the Bundle; without any, every reference is literal."""
        tree: Tree = {"resourceType": kind} | ({"id": id} if id else {})
        for name, value in content:
            if value is not None:
                tree[name] = self._element(kind, name, value, urns)
        return tree

    def _element(self, kind: str, name: str, value: Any, urns: Sequence[str]) -> Any:
        if name == "identifier":
            return [{"system": self.system, "value": number} for number in value]
        if name == "name" and kind == "Patient":
            return [{"family": f"{value}{self.run}"}]
        if name not in ("subject", "managingOrganization"):
            return value
        means, what = value
        target = REFERENCES[kind][1]
        if means == "entry":
            there = [one for place, one in enumerate(urns) if one == urn(target, place)] or [f"{target}/absent"]
            return {"reference": there[what % len(there)]}
        if means == "condition" and urns:
            return {"reference": f"{target}?identifier={self.system}|{what}"}
        place = what if means != "condition" else int(what)
        return {"reference": "/".join(self.key(target, place))}

    def asked(self, draft: Draft, state: State, place: int = 0, urns: Sequence[str] = ()) -> Ask:
        """The draft as a request to a server in this state. place: of the entry, in a Bundle."""
        key = None if draft.place is None else self.key(draft.type, draft.place)
        if key and draft.calm and draft.method in ("PATCH", "GET", "HEAD") and not state.current(key):
            key = next((one for one, _ in state.standing(draft.type)), key)
        query = self.query(draft.condition)
        sent = key[1] if key else None
        if draft.body_id is not None and draft.method == "PUT":
            sent = self.key(draft.type, draft.body_id)[1]
        reads = draft.method in ("GET", "HEAD")
        tag = _tag(draft.if_match, state.last(key) if key else None)
        return Ask(
            method=draft.method,
            type=draft.type,
            id=key[1] if key else None,
            query="" if draft.method == "POST" else query,
            vid=draft.vid if reads and key else None,
            tree=self.tree(draft.type, draft.content, sent, urns) if draft.content else None,
            change=draft.change if draft.method == "PATCH" else None,
            by_path=draft.by_path,
            if_match=tag if draft.method in ("PUT", "PATCH", "DELETE") else None,
            if_none_match=(tag if reads and key else None) or ("*" if draft.only_new else None),
            if_none_exist=query if draft.method == "POST" and query else None,
            full_url=urns[place] if urns else None,
        )


def _tag(wanted: str, last: Version | None) -> str | None:
    number = last.number if last else 1
    return {
        "": None,
        "current": f'W/"{number}"',
        "strong": f'"{number}"',
        "stale": f'W/"{number + 1}"' if number == 1 else f'W/"{number - 1}"',
        "any": "*",
        "both": f'W/"{number + 7}", W/"{number}"',
    }[wanted]


def urn(kind: str, number: int) -> str:
    """A fullUrl that says its type to us."""
    return f"urn:uuid:{TYPES.index(kind):08}-0000-4000-8000-{number:012}"
