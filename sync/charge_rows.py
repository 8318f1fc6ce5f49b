"""ChargeItems of an episode → rows of XML2 (drugs) and XML3 (services, beds, supplies) with their money.

In:     Episode, and the diagnosis and department rows fall back on
Out:    Charge rows, or every reason why one cannot be written
Source: QĐ 4750 tables XML2 and XML3; how a charge lies in a ChargeItem: ehr.fhir.vietnam
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from ehr.errors import Invalid, Issue
from ehr.fhir.elements import code_of, target_of, text_of
from ehr.fhir.vietnam import MA_DICH_VU, MA_THUOC, MA_VAT_TU, claim_columns
from sync import amounts
from sync.amounts import HUNDRED, Amounts, thousandths
from sync.dossier import Charge
from sync.episode import Episode, Tree
from sync.moments import minute
from terminology.claim_tables import table

_OTHER_SOURCES: Final = ("T_NGUONKHAC_NSNN", "T_NGUONKHAC_VTNN", "T_NGUONKHAC_VTTN", "T_NGUONKHAC_CL")
_OUTSIDE: Final = "2"
_BILLED: Final = frozenset({"billable", "billed"})
_STATED: Final = ("THANH_TIEN_BV", "THANH_TIEN_BH", "T_BNTT", "T_BNCCT", "T_BHTT")
_ONE_DONG: Final = Decimal(1)
_MOST: Final = Decimal(10) ** 12
"""No number of a charge has more: the widest field, THANH_TIEN_BV, has 15 characters with its point and hundredths."""


@dataclass(frozen=True, slots=True)
class Priced:
    """A charge before it is known who pays: its row so far, and its cost at hospital and insurance prices."""

    table: str
    columns: dict[str, str]
    bv: Decimal
    bh: Decimal
    other: Decimal
    charge_item_id: str
    at: str


def priced(episode: Episode, department: str, diagnosis: str) -> tuple[list[Priced], list[Issue]]:
    """Every billable charge of the episode in the order of its orders, and what is wrong with the others."""
    rows: list[Priced] = []
    issues: list[Issue] = []
    for charge in episode.charges:
        if charge.get("status") not in _BILLED:
            continue
        at = f"ChargeItem/{charge['id']}"
        try:
            rows.append(_priced(episode, charge, department, diagnosis, at))
        except Invalid as error:
            issues += error.issues
    rows.sort(key=lambda row: (row.table, row.columns.get("NGAY_YL", ""), row.charge_item_id))
    return rows, issues


def settled(rows: list[Priced], ma_lk: str, benefit: Decimal) -> tuple[list[Charge], list[Issue]]:
    """The rows with who pays what. benefit: MUC_HUONG of the episode, for rows that name none."""
    charges: list[Charge] = []
    issues: list[Issue] = []
    numbers: dict[str, int] = {}
    for row in rows:
        try:
            own = _number(row.columns["MUC_HUONG"], row.at, "MUC_HUONG") if row.columns.get("MUC_HUONG") else benefit
            sums = amounts.split(row.bv, row.bh, own, row.other, at=row.at)
            issues += _contradictions(row, sums)
        except Invalid as error:
            issues += error.issues
            continue
        numbers[row.table] = numbers.get(row.table, 0) + 1
        columns = row.columns | {
            "MA_LK": ma_lk,
            "STT": str(numbers[row.table]),
            "MUC_HUONG": plain(own),
            "THANH_TIEN_BV": money(sums.bv),
            "THANH_TIEN_BH": money(sums.bh),
            "T_NGUONKHAC": money(sums.other),
            "T_BNTT": money(sums.bntt),
            "T_BNCCT": money(sums.bncct),
            "T_BHTT": money(sums.bhtt),
        }
        charges.append(Charge(row.table, columns, sums, row.charge_item_id))
    return charges, issues


def money(value: Decimal) -> str:
    """Two decimals, a point, no exponent."""
    return format(amounts.hundredths(value), "f")


def plain(value: Decimal) -> str:
    """A number without needless zeros: 100, 32.5."""
    return format(value.normalize(), "f") if value else "0"


def _priced(episode: Episode, charge: Tree, department: str, diagnosis: str, at: str) -> Priced:
    code_table = _table_of(charge, at)
    names = set(table(code_table).names)
    stated = claim_columns(charge)
    columns = {name: value for name, value in stated.items() if name in names}
    columns |= _codes(charge, columns)
    quantity = _quantity(charge, columns, at)
    _fill(columns, _common(episode, charge, department))
    outside = columns["PHAM_VI"] == _OUTSIDE
    _fill(columns, {"TYLE_TT_BH": "0" if outside else "100"})
    insured = _number(columns["TYLE_TT_BH"], at, "TYLE_TT_BH")
    price_of = _drug_price if code_table == "XML2" else _service_price
    _fill(columns, _drug(episode, charge) if code_table == "XML2" else {"MA_BENH": diagnosis})
    bv, bh = price_of(charge, columns, quantity, insured, at)
    other = _zeros(columns, at)
    columns["SO_LUONG"] = format(quantity, "f")
    return Priced(code_table, columns, bv, bh, other, str(charge["id"]), at)


def _table_of(charge: Tree, at: str) -> str:
    systems = {coding.get("system") for coding in charge.get("code", {}).get("coding", ())}
    if MA_THUOC in systems:
        return "XML2"
    if systems & {MA_DICH_VU, MA_VAT_TU}:
        return "XML3"
    raise Invalid("the charge has no code of the common lists of drugs, services or supplies", at=f"{at}.code")


def _codes(charge: Tree, columns: Mapping[str, str]) -> dict[str, str]:
    """Code and name, where the columns do not give them."""
    found: dict[str, str] = {}
    for system, code_column, name_column in (
        (MA_THUOC, "MA_THUOC", "TEN_THUOC"),
        (MA_DICH_VU, "MA_DICH_VU", "TEN_DICH_VU"),
        (MA_VAT_TU, "MA_VAT_TU", "TEN_VAT_TU"),
    ):
        code = code_of(charge.get("code"), system)
        if code is not None:
            found[code_column] = columns.get(code_column) or code
            found[name_column] = columns.get(name_column) or text_of(charge.get("code"))
    return found


def _common(episode: Episode, charge: Tree, department: str) -> dict[str, str]:
    """Columns both tables have, from FHIR elements."""
    service = _service(episode, charge)
    performers = [performer.get("actor") for performer in charge.get("performer", ())]
    ordered = charge.get("enteredDate") or service.get("authoredOn") or charge.get("occurrenceDateTime")
    done = charge.get("occurrenceDateTime") or charge.get("occurrencePeriod", {}).get("start")
    columns = {
        "PHAM_VI": "1",
        "MA_PTTT": "1",
        "MA_KHOA": department,
        "DON_VI_TINH": str(charge.get("quantity", {}).get("unit", "")),
        "MA_BAC_SI": episode.certificate(charge.get("enterer"), service.get("requester"), episode.clinician),
        "NGAY_YL": minute(ordered or done, "ChargeItem.enteredDate") if ordered or done else "",
        "NGAY_TH_YL": minute(done, "ChargeItem.occurrenceDateTime") if done else "",
    }
    if _is_service(charge):
        columns["NGUOI_THUC_HIEN"] = episode.certificate(*performers)
    return columns


def _is_service(charge: Tree) -> bool:
    return code_of(charge.get("code"), MA_DICH_VU) is not None


def _service(episode: Episode, charge: Tree) -> Tree:
    """What was delivered: the first resource of ChargeItem.service that we hold."""
    for one in charge.get("service", ()):
        found = episode.referred.get(target_of(one))
        if found is not None:
            return found
    return {}


def _drug(episode: Episode, charge: Tree) -> dict[str, str]:
    """Columns of a drug that the order gives."""
    order = _service(episode, charge)
    dosage: Tree = next(iter(order.get("dosageInstruction", ())), {})
    route: Tree = next(iter(dosage.get("route", {}).get("coding", ())), {})
    group = {"2": "5"}.get(claim_columns(charge).get("PHAM_VI", "1"), "4")
    return {
        "MA_NHOM": group,
        "NGUON_CTRA": "1",
        "LIEU_DUNG": str(dosage.get("text", "")),
        "CACH_DUNG": str(dosage.get("patientInstruction", "")),
        "DUONG_DUNG": str(route.get("code", "")),
    }


def _drug_price(
    charge: Tree, columns: dict[str, str], quantity: Decimal, insured: Decimal, at: str
) -> tuple[Decimal, Decimal]:
    price = _price(columns, "DON_GIA", charge, times=quantity, at=at)
    columns["DON_GIA"] = format(price, "f")
    return amounts.drug(quantity, price, insured)


def _service_price(
    charge: Tree, columns: dict[str, str], quantity: Decimal, insured: Decimal, at: str
) -> tuple[Decimal, Decimal]:
    factor = charge.get("factorOverride")
    rate = _number(str(factor), at, "factorOverride") * HUNDRED if factor is not None else HUNDRED
    if columns.get("TYLE_TT_DV"):
        rate = _number(columns["TYLE_TT_DV"], at, "TYLE_TT_DV")
    hospital = _price(columns, "DON_GIA_BV", charge, times=quantity * rate / HUNDRED, at=at)
    inside = thousandths(_number(columns["DON_GIA_BH"], at, "DON_GIA_BH")) if columns.get("DON_GIA_BH") else hospital
    columns |= {
        "TYLE_TT_DV": plain(rate),
        "DON_GIA_BV": format(hospital, "f"),
        "DON_GIA_BH": format(inside, "f"),
    }
    return amounts.service(quantity, hospital, inside, rate, insured)


def _price(columns: Mapping[str, str], name: str, charge: Tree, *, times: Decimal, at: str) -> Decimal:
    """The unit price as it is written: the column, else the line's price divided by what multiplies it, where that is
    exact."""
    if columns.get(name):
        return thousandths(_number(columns[name], at, name))
    stated = charge.get("priceOverride", {}).get("value")
    if stated is None:
        raise Invalid(f"the charge has neither {name} nor a price", at=f"{at}.priceOverride")
    if not times:
        raise Invalid(f"{name} cannot be found from a quantity or rate of zero", at=f"{at}.quantity")
    whole = _number(str(stated), at, "priceOverride")
    price = thousandths(whole / times)
    if amounts.hundredths(price * times) != amounts.hundredths(whole):
        raise Invalid(f"{name} cannot be found from the price of the line, which does not divide", at=f"{at}.quantity")
    return price


def _quantity(charge: Tree, columns: Mapping[str, str], at: str) -> Decimal:
    """SO_LUONG as it is written: the insurer multiplies what it reads."""
    if columns.get("SO_LUONG"):
        return thousandths(_number(columns["SO_LUONG"], at, "SO_LUONG"))
    value = charge.get("quantity", {}).get("value")
    if value is None:
        raise Invalid("the charge has no quantity", at=f"{at}.quantity")
    return thousandths(_number(str(value), at, "quantity"))


def _zeros(columns: dict[str, str], at: str) -> Decimal:
    """The other sources, written as they must be even where there are none, and their sum."""
    other = amounts.NOTHING
    for name in _OTHER_SOURCES:
        value = _number(columns.get(name) or "0", at, name)
        columns[name] = money(value)
        other += amounts.hundredths(value)
    return other


def _contradictions(row: Priced, sums: Amounts) -> list[Issue]:
    """Amounts the facility stated that differ by a đồng or more from what the rules give."""
    ours = dict(zip(_STATED, (sums.bv, sums.bh, sums.bntt, sums.bncct, sums.bhtt), strict=True))
    return [
        Issue("business-rule", f"{name} as sent is not what quantity, prices and rates give", f"{row.at}.{name}")
        for name, value in ours.items()
        if row.columns.get(name) and abs(_number(row.columns[name], row.at, name) - value) >= _ONE_DONG
    ]


def _number(text: str, at: str, name: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise Invalid(f"{name} is not a number", at=f"{at}.{name}") from error
    if not value.is_finite():
        raise Invalid(f"{name} is not a number", at=f"{at}.{name}")
    if value < 0:
        raise Invalid(f"{name} is below 0; take a charge back by its status", at=f"{at}.{name}")
    if value > _MOST:
        raise Invalid(f"{name} is larger than a claim can carry", at=f"{at}.{name}")
    return value


def _fill(columns: dict[str, str], found: Mapping[str, str]) -> None:
    """Take what the columns do not have yet."""
    for name, value in found.items():
        if value and not columns.get(name):
            columns[name] = value
