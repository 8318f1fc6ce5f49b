"""What a newcomer gets wrong is answered with what was probably meant."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import City
from tests.api.mothers import patient

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLIPS: dict[str, tuple[str, str, Any, str]] = {
    "a type in lower case": ("GET", "/patient/1", None, "did you mean Patient?"),
    "a type in the plural": ("GET", "/Observations", None, "did you mean Observation?"),
    "a parameter": ("GET", "/Patient?famly=x", None, "did you mean family?"),
    "a parameter in upper case": ("GET", "/Patient?Name=x", None, "did you mean name?"),
    "a chained parameter": ("GET", "/Observation?subject:Patient.famliy=x", None, "did you mean family?"),
    "a modifier": ("GET", "/Patient?name:like=x", None, ":contains, :exact, :missing"),
    "a sort": ("GET", "/Patient?_sort=birthDate", None, "did you mean birthdate?"),
    "an include": ("GET", "/Observation?_include=Observation:patiant", None, "did you mean patient?"),
    "an operation": ("GET", "/Patient/1/$everthing", None, "did you mean $everything?"),
    "an element": ("POST", "/Patient", patient(birthdate="1970-01-01"), "did you mean birthDate?"),
    "an element below": ("POST", "/Patient", patient(contact=[{"gendre": "male"}]), "did you mean gender?"),
    "no id in the address": ("PUT", "/Patient", patient(id="1"), "Patient/[id]"),
    "an element of a Bundle": ("POST", "", {"resourceType": "Bundle", "type": "batch", "entrys": []}, "mean entry?"),
}


@pytest.mark.parametrize("name", SLIPS)
async def test_a_slip_is_answered_with_what_was_meant(shared_city: City, name: str) -> None:
    method, url, body, told = SLIPS[name]
    answer = await shared_city.system().request(method, url, json=body)
    assert answer.status_code in (400, 404, 412), answer.text
    assert told in answer.json()["issue"][0]["diagnostics"]


async def test_nothing_is_guessed_of_an_operation_of_another_level(shared_city: City) -> None:
    answer: httpx.Response = await shared_city.system().get("/$everything")
    assert "did you mean" not in answer.text
