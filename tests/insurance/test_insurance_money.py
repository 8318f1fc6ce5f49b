"""Money of a dossier: every total is the sum of its rows, to the hundredth of a đồng, whatever the charges."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr.errors import Invalid
from sync.amounts import drug, service, split
from sync.benefit import benefit, level
from sync.compose import compose
from sync.dossier import Dossier, Withheld

if TYPE_CHECKING:
    from tests.insurance.conftest import Episodes

NOV = date(2026, 11, 20)
quantities = st.decimals("0.001", "999", places=3)
prices = st.decimals("0", "99999999", places=3)
rates = st.sampled_from([Decimal(rate) for rate in (0, 30, 33, 50, 80, 95, 100)])


@given(quantities, prices, rates, rates, st.decimals("0", "1", places=4))
def test_parts_of_a_row_sum_to_the_whole(
    quantity: Decimal, price: Decimal, rate: Decimal, level: Decimal, share: Decimal
) -> None:
    bv, bh = drug(quantity, price, rate)
    other = (bv * share).quantize(Decimal("0.01"), "ROUND_DOWN")
    amounts = split(bv, bh, level, other)
    assert amounts.bntt + amounts.bncct + amounts.bhtt + amounts.other == bv
    assert min(amounts.bntt, amounts.bncct, amounts.bhtt) >= 0
    if not other:
        assert amounts.bncct + amounts.bhtt == bh
        assert amounts.bntt == bv - bh


@given(quantities, prices, rates, rates)
def test_the_fund_pays_the_same_or_less_when_another_source_helps(
    quantity: Decimal, price: Decimal, rate: Decimal, level: Decimal
) -> None:
    bv, bh = service(quantity, price, price, Decimal(100), rate)
    alone = split(bv, bh, level)
    patients = alone.bntt + alone.bncct
    helped = split(bv, bh, level, patients)
    assert helped.bntt == helped.bncct == 0
    assert helped.bhtt == alone.bhtt


def test_the_examples_of_the_annex() -> None:
    """QĐ 4750, XML2.T_BNTT: 7,000,000 at a rate of 50 %, card of 80 %."""
    bv, bh = drug(Decimal(1), Decimal(7_000_000), Decimal(50))
    amounts = split(bv, bh, Decimal(80))
    assert [bh, amounts.bhtt, amounts.bncct, amounts.bntt] == [3_500_000, 2_800_000, 700_000, 3_500_000]


def test_rounding_is_half_up() -> None:
    assert drug(Decimal("0.5"), Decimal("0.010"), Decimal(100))[0] == Decimal("0.01")
    assert split(Decimal("0.05"), Decimal("0.05"), Decimal(50)).bhtt == Decimal("0.03")


def test_more_insured_than_charged_is_refused() -> None:
    with pytest.raises(Invalid):
        split(Decimal(1), Decimal(2), Decimal(80))


@pytest.mark.parametrize(("digit", "percent"), [("1", 100), ("2", 100), ("3", 95), ("4", 80), ("5", 100)])
def test_level_of_the_card(digit: str, percent: int) -> None:
    assert level(f"GD{digit}010123456789") == percent


def test_small_bills_stations_and_out_of_line() -> None:
    card, small, large = "GD4010123456789", Decimal("350999.99"), Decimal(351_000)
    assert benefit(card, small, NOV, "1.1", at_station=False) == 100
    assert benefit(card, large, NOV, "1.1", at_station=False) == 80
    assert benefit(card, large, NOV, "1.2", at_station=True) == 100
    assert benefit(card, small, NOV, "3.3", at_station=False) == 80


charges = st.lists(
    st.tuples(
        st.booleans(),
        st.decimals("0.001", "500", places=3),
        st.decimals("0", "5000000", places=3),
        st.sampled_from(["0", "50", "100"]),
        st.sampled_from(["", "32", "80", "95", "100"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(charges)
def test_totals_of_a_random_episode_are_the_sums_of_its_rows(
    episodes: "Episodes", rows: list[tuple[bool, Decimal, Decimal, str, str]]
) -> None:
    items = tuple(
        replace(
            episodes.DRUG if is_drug else episodes.EXAMINATION,
            quantity=str(quantity),
            price=str(price),
            columns=(
                *(episodes.DRUG if is_drug else episodes.EXAMINATION).columns,
                ("TYLE_TT_BH", rate),
                ("MUC_HUONG", level),
            ),
        )
        for is_drug, quantity, price, rate, level in rows
    )
    dossier = compose(episodes.episode(episodes.outpatient(items=items)))
    assert isinstance(dossier, Dossier), dossier
    columns = [charge.columns for charge in dossier.charges]
    assert len(columns) == len(rows)
    for total, part in (
        ("T_TONGCHI_BV", "THANH_TIEN_BV"),
        ("T_TONGCHI_BH", "THANH_TIEN_BH"),
        ("T_BNTT", "T_BNTT"),
        ("T_BNCCT", "T_BNCCT"),
        ("T_BHTT", "T_BHTT"),
    ):
        assert Decimal(dossier.summary[total]) == sum(Decimal(row[part]) for row in columns)
    # QĐ 4750, XML1.T_BHTT, where no other source pays
    summary = {name: Decimal(dossier.summary[name]) for name in ("T_BHTT", "T_TONGCHI_BH", "T_BNCCT", "T_THUOC")}
    assert summary["T_BHTT"] == summary["T_TONGCHI_BH"] - summary["T_BNCCT"]
    assert summary["T_THUOC"] == sum(Decimal(row["THANH_TIEN_BV"]) for row in columns if "MA_THUOC" in row)


def test_an_amount_that_contradicts_the_rules_is_withheld(episodes: "Episodes") -> None:
    wrong = replace(episodes.DRUG, columns=(*episodes.DRUG.columns, ("THANH_TIEN_BV", "23011.00")))
    composed = compose(episodes.episode(episodes.outpatient(items=(wrong,))))
    assert isinstance(composed, Withheld)
    assert [(issue.code, issue.at) for issue in composed.issues] == [
        ("business-rule", "ChargeItem/i0-1-01Z01.THANH_TIEN_BV")
    ]
