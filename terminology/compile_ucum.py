"""UCUM's own table → terminology/data/ucum.json.

Run:     python -m terminology.compile_ucum ucum-essence.xml
In:      ucum-essence.xml of The UCUM Organization (version 2.2 of 2024-06-17)
Out:     prefixes; units with the number and the unit that define them; base units define themselves
Source:  The Unified Code for Units of Measure, https://ucum.org; used under its licence, whose notice the table carries
"""

import sys
from pathlib import Path
from typing import Any, Final

import orjson
from lxml import etree

OUT: Final = Path(__file__).parent / "data" / "ucum.json"
_NAMESPACE: Final = "{http://unitsofmeasure.org/ucum-essence}"
NOTICE: Final = (
    "Derived from the UCUM table, subject to a license from Regenstrief Institute, Inc. and The UCUM Organization; "
    "a copy of the license is at https://ucum.org/license. The UCUM table is copyright 1995-2024 Regenstrief "
    "Institute, Inc. and The UCUM Organization, and is provided AS IS; express or implied warranties are disclaimed."
)


def main(path: Path) -> None:
    root: Any = etree.parse(path, etree.XMLParser(resolve_entities=False, no_network=True)).getroot()
    made: dict[str, Any] = {"notice": NOTICE, "version": root.get("version"), "prefixes": {}, "units": {}}
    for prefix in root.iter(f"{_NAMESPACE}prefix"):
        made["prefixes"][prefix.get("Code")] = prefix.find(f"{_NAMESPACE}value").get("value")
    for base in root.iter(f"{_NAMESPACE}base-unit"):
        made["units"][base.get("Code")] = {"metric": True}
    for unit in root.iter(f"{_NAMESPACE}unit"):
        made["units"][unit.get("Code")] = _unit(unit)
    OUT.write_bytes(orjson.dumps(made, option=orjson.OPT_INDENT_2) + b"\n")


def _unit(unit: Any) -> dict[str, Any]:
    """Arbitrary units and those on scales that are not ratios are defined by nothing else."""
    made: dict[str, Any] = {"metric": True} if unit.get("isMetric") == "yes" else {}
    if unit.get("isArbitrary") != "yes" and unit.get("isSpecial") != "yes":
        value = unit.find(f"{_NAMESPACE}value")
        made |= {"value": value.get("value"), "unit": value.get("Unit")}
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]))
