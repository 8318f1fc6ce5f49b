"""What a citizen is told of a result: above, below, within, or nothing where nobody can say."""

from decimal import Decimal
from typing import Any

import pytest

from ehr.web.citizen import reading

MALE = {"low": {"value": Decimal(13), "unit": "g/dL"}, "high": {"value": Decimal(17), "unit": "g/dL"}}
FEMALE = {"low": {"value": Decimal(12), "unit": "g/dL"}, "high": {"value": Decimal(15), "unit": "g/dL"}}


@pytest.mark.parametrize(
    ("value", "ranges", "told"),
    [
        ({"value": Decimal("13.5")}, [MALE], "within"),
        ({"value": Decimal(17)}, [MALE], "within"),
        ({"value": Decimal("17.1")}, [MALE], "above"),
        ({"value": Decimal("12.9")}, [MALE], "below"),
        ({"value": Decimal(14)}, [MALE, FEMALE], "within"),
        ({"value": Decimal(16)}, [MALE, FEMALE], ""),
        ({"value": Decimal(18)}, [MALE, FEMALE, {"text": "as for adults"}], "above"),
        ({"value": Decimal(13), "comparator": "<"}, [MALE], "below"),
        ({"value": Decimal(13), "comparator": "<="}, [MALE], ""),
        ({"value": Decimal(15), "comparator": "<"}, [MALE], ""),
        ({"value": Decimal(15), "comparator": "<"}, [{"high": {"value": Decimal(17)}}], "within"),
        ({"value": Decimal(19), "comparator": "<"}, [{"high": {"value": Decimal(17)}}], ""),
        ({"value": Decimal(60), "comparator": ">"}, [{"low": {"value": Decimal(60)}}], "within"),
        ({"value": Decimal(50), "comparator": ">"}, [{"low": {"value": Decimal(60)}}], ""),
        ({"value": Decimal(17), "comparator": ">"}, [MALE], "above"),
        ({"value": Decimal(17), "comparator": ">="}, [MALE], ""),
        ({"value": Decimal(14), "comparator": ">"}, [MALE], ""),
        ({"value": Decimal(135), "unit": "g/L"}, [MALE], ""),
        ({"value": Decimal(135), "unit": "g/L"}, [{"low": {"value": Decimal(130)}}], "within"),
        ({"value": Decimal(14)}, [{"text": "13 - 17"}], ""),
        ({"value": Decimal(14)}, [{"low": {"unit": "g/dL"}}], ""),
        ({}, [MALE], ""),
    ],
)
def test_a_reading_is_told_where_it_is_sure(value: dict[str, Any], ranges: list[dict[str, Any]], told: str) -> None:
    quantity = {"unit": "g/dL", **value} if value else {}
    assert reading({"valueQuantity": quantity, "referenceRange": ranges}) == told


def test_what_is_no_quantity_has_no_reading() -> None:
    assert reading({"valueString": "negative", "referenceRange": [MALE]}) == ""
