"""What the columns of several tables have in common: lists in one field, clinicians by number, what has no element.

Source:  QĐ 4750 annex (lists are parted by semicolons); ehr.fhir.vietnam
"""

from adapters.claim_xml.envelope import Row
from adapters.draft import Tree
from ehr.fhir import vietnam
from ehr.fhir.elements import coded


def parts(row: Row, name: str) -> list[str]:
    """The filled parts of a list in one field."""
    return [part.strip() for part in row.get(name, "").split(";") if part.strip()]


def clinicians(row: Row, name: str) -> list[Tree]:
    """The clinicians of a field by the numbers the tables know them by; no name is sent, so no Practitioner is made."""
    numbers = dict.fromkeys(parts(row, name))
    return [{"identifier": {"system": vietnam.PRACTISING_CERTIFICATE, "value": number}} for number in numbers]


def category(code: str) -> Tree:
    """Of an Observation."""
    return coded(vietnam.OBSERVATION_CATEGORY, code)


def add_columns(resource: Tree, row: Row, names: tuple[str, ...]) -> None:
    """The claim columns that have no element of their own."""
    kept = {name: row[name] for name in names if row.get(name)}
    if kept:
        resource["extension"] = [vietnam.columns_extension(kept)]
