"""The interface against a model of it: any mix of interactions, each answered and left behind as the model says.

EHR_MODEL_RUNS=400x40 asks for 400 runs of 40 steps, EHR_MODEL_SEED for others than those of `make test`.
"""

import asyncio
import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import httpx
import pytest
from hypothesis import HealthCheck, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.api.conftest import City
from tests.api.model import Ask, Due, Key, Refused, State
from tests.api.model_bundle import TURNS, transact
from tests.api.model_client import Client
from tests.api.model_drafts import PLACES, TYPES, Draft, Namespace, Pairs, conditions, drafts, urn

RUNS, STEPS = map(int, os.environ.get("EHR_MODEL_RUNS", "32x25").split("x"))
SEED: Final = int(os.environ.get("EHR_MODEL_SEED", "20261130"))
PREFER = st.sampled_from([None, None, "return=minimal", "return=representation", "return=OperationOutcome"])
FORMS = st.sampled_from(["json", "json", "json", "xml"])
COUNTS = st.sampled_from([None, 1, 2, 3])
METHODS: Final = ("POST", "POST", "PUT", "PUT", "PUT", "PATCH", "DELETE", "GET", "HEAD")
ENTRIES = st.lists(drafts(METHODS, calm=True), min_size=1, max_size=5)
SORTS = st.sampled_from([None, "_id", "-_id", "_lastUpdated", "-_lastUpdated"])
PREFIXES: Final = ("", "eq", "ne", "ge", "gt", "sa", "le", "lt", "eb")
BESIDE: Final = {
    "Patient": {"_include": "Patient:organization", "_revinclude": "Observation:subject"},
    "Observation": {"_include": "Observation:subject"},
    "Organization": {"_revinclude": "Patient:organization"},
}


class Interactions(RuleBasedStateMachine):
    """One run, over resources of its own: the server keeps what the runs before left."""

    http: ClassVar[httpx.Client]
    numbers: ClassVar[Any] = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        self.run = f"r{next(self.numbers)}x"
        self.names = Namespace(self.run, {kind: [] for kind in TYPES})
        self.state = State()
        self.client = Client(self.http)
        self.renamed: dict[str, str] = {}
        self.kept: list[tuple[Ask, dict[str, str], dict[str, str], httpx.Response]] = []

    # ---- writes

    @initialize(drafted=st.lists(drafts(("POST", "PUT"), calm=True), min_size=4, max_size=8))
    def fill(self, drafted: list[Draft]) -> None:
        for draft in drafted:
            self.write(draft, None, "json", "json", keyed=False)

    @rule(draft=drafts(), prefer=PREFER, sent=FORMS, wanted=FORMS, keyed=st.booleans())
    def write(self, draft: Draft, prefer: str | None, sent: str, wanted: str, *, keyed: bool) -> None:
        ask, after = self.names.asked(draft, self.state), self.state.copy()
        headers = {"Prefer": prefer} if prefer else {}
        if keyed:
            headers["Idempotency-Key"] = f"{self.run}{len(self.kept)}"
        answer = self.client.send(ask, headers, sent=sent, wanted=wanted)
        try:
            due = after.perform(ask, "?0")
        except Refused as refused:
            self.client.is_refused(answer, refused.statuses)
            self.look((ask.type, ask.id or ""))
            return
        self.took(after, [due], [self.client.told(answer, ask, due)])
        self.client.is_written(answer, ask, self.named(due), prefer)
        self.look(self.real(due.key))
        if keyed:
            self.kept.append((ask, headers, {"sent": sent, "wanted": wanted}, answer))

    @rule(which=st.integers(0, 20), other=st.booleans())
    def ask_again(self, which: int, *, other: bool) -> None:
        """The same under the same key is answered as the first time, whatever happened meanwhile."""
        if not self.kept:
            return
        ask, headers, forms, first = self.kept[which % len(self.kept)]
        again = self.client.send(ask, headers | ({"Prefer": "respond-sync"} if other else {}), **forms)
        if other:
            self.client.is_refused(again, (422,))
            return
        same = ("etag", "location", "last-modified", "content-type")
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert [again.headers.get(name) for name in same] == [first.headers.get(name) for name in same]

    @rule(chosen=ENTRIES, prefer=PREFER)
    def transaction(self, chosen: list[Draft], prefer: str | None) -> None:
        asks = self.entries(chosen)
        answer = self.client.bundle("transaction", asks, prefer)
        note(f"{asks}\n{answer.text}")
        try:
            after, dues = transact(self.state, asks, lambda place: f"?{place}")
        except Refused as refused:
            self.client.is_refused(answer, refused.statuses)
            for ask in asks:
                self.look((ask.type, ask.id or ""))
            return
        entries = self.client.entries(answer, "transaction-response", asks)
        self.took(after, dues, [one["response"] for one in entries])
        for ask, due, entry in zip(asks, dues, entries, strict=True):
            self.client.is_answered(entry, ask, self.named(due), prefer)
            self.look(self.real(due.key))

    @rule(chosen=ENTRIES, prefer=PREFER)
    def batch(self, chosen: list[Draft], prefer: str | None) -> None:
        asks = self.entries(chosen)
        answer = self.client.bundle("batch", asks, prefer)
        note(f"{asks}\n{answer.text}")
        entries = self.client.entries(answer, "batch-response", asks)
        made = {ask.full_url for ask in asks if ask.method == "POST"}
        for place in sorted(range(len(asks)), key=lambda place: TURNS[asks[place].method]):
            ask, entry = asks[place], entries[place]
            try:
                if ask.urns & (made - {ask.full_url}):
                    raise Refused(422)
                after, dues = transact(self.state, [ask], lambda _: "?0")
            except Refused as refused:
                self.client.is_refused_entry(entry, refused.statuses, place)
            else:
                self.took(after, dues, [entry["response"]])
                self.client.is_answered(entry, ask, self.named(dues[0]), prefer)

    def entries(self, chosen: Sequence[Draft]) -> list[Ask]:
        urns = [urn(draft.type, number) for number, draft in enumerate(chosen)]
        return [self.names.asked(draft, self.state, place, urns) for place, draft in enumerate(chosen)]

    def took(self, after: State, dues: Sequence[Due], told: Sequence[dict[str, Any]]) -> None:
        """The state after, with the ids and moments that the server told."""
        self.renamed, moments = {}, {}
        for due, response in zip(dues, told, strict=True):
            assert str(response["status"])[:3] == str(due.status), (response, due)
            if due.key is None or not due.wrote:
                continue
            kind, id = due.key
            if id.startswith("?"):
                self.renamed[id] = response["location"].split("/")[-3]
                self.names.made[kind].append(self.renamed[id])
            moments[self.real(due.key)] = response["lastModified"]
        after.settle(self.renamed, moments)
        self.state = after

    def real(self, key: Key | None) -> Key:
        """With the id that the server chose."""
        return (key[0], self.renamed.get(key[1], key[1])) if key else ("", "")

    def named(self, due: Due) -> Due:
        """What is due, with what the server chose."""
        if due.found is not None:
            return replace(due, found=frozenset(map(self.real, due.found)))
        if due.key is None or due.version is None:
            return due
        key = self.real(due.key)
        return replace(due, key=key, version=self.state.versions[key][due.version.number - 1])

    def look(self, key: Key) -> None:
        """The resource is there as the model has it."""
        if key[1]:
            self.client.reads(self.state, Ask("GET", *key))

    # ---- reads

    @rule(draft=drafts(("GET", "HEAD")), wanted=FORMS)
    def read(self, draft: Draft, wanted: str) -> None:
        ask = self.names.asked(draft, self.state)
        if ask.id is None:
            self.client.searches(self.state, ask.type, ask.query, {})
        else:
            self.client.reads(self.state, ask, wanted=wanted)

    @rule(
        kind=st.sampled_from(TYPES),
        place=PLACES,
        count=COUNTS,
        by=st.sampled_from(["", "", "_since", "_at", "_at.second"]),
        moment=st.integers(0, 30),
        wide=st.sampled_from(["instance", "instance", "type", "system"]),
    )
    def history(self, kind: str, place: int, count: int | None, by: str, moment: int, wide: str) -> None:
        self.client.histories(self.state, self.names.key(kind, place), wide, count, by, moment)

    @rule(
        kind=st.sampled_from(TYPES),
        condition=conditions(),
        count=COUNTS,
        total=st.sampled_from([None, "none", "accurate"]),
        sort=SORTS,
        beside=st.booleans(),
        post=st.booleans(),
        moment=st.one_of(st.none(), st.tuples(st.sampled_from(PREFIXES), st.integers(0, 30))),
    )
    def search(
        self,
        kind: str,
        condition: Pairs,
        count: int | None,
        total: str | None,
        sort: str | None,
        *,
        beside: bool,
        post: bool,
        moment: tuple[str, int] | None,
    ) -> None:
        if kind != "Patient":
            condition = (("identifier", "#|"),)
        more = {"_count": str(count) if count else None, "_total": total, "_sort": sort}
        more |= BESIDE[kind] if beside else {}
        said = {name: value for name, value in more.items() if value}
        query = self.names.query(condition)
        moments = sorted(version.updated for held in self.state.versions.values() for version in held)
        if moment and moments:
            query += f"&_lastUpdated={moment[0]}{moments[moment[1] % len(moments)]}"
        self.client.searches(self.state, kind, query, said, post=post)

    def teardown(self) -> None:
        """All of it."""
        for kind in TYPES:
            everything = f"identifier={self.names.system}|"
            self.client.searches(self.state, kind, everything, {"_total": "accurate"})
        self.client.histories(self.state, ("", ""), "system", 1000, "", 0)
        for key in self.state.versions:
            self.client.histories(self.state, key, "instance", None, "", 0)


@pytest.mark.timeout(RUNS * STEPS)  # a second a step: a tenth of it on a busy machine
async def test_any_mix_of_interactions_is_what_the_model_says(city: City) -> None:
    how = settings(
        max_examples=RUNS,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    headers = {"Authorization": city.system().headers["Authorization"]}
    with httpx.Client(base_url=city.base, timeout=30, trust_env=False, headers=headers) as http:
        Interactions.http = http
        await asyncio.to_thread(run_state_machine_as_test, seed(SEED)(Interactions), settings=how)
