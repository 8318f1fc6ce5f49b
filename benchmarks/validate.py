"""How fast the gate is: ehr.fhir.validate over resources of Synthea, as a ratio to orjson.loads in the same run.

Run:     python -m benchmarks.validate [FOLDER]   NDJSON files, plain or .gz; default ../shared/data/synthea-100/ndjson
Out:     one line for each type and one for all: resources, µs to parse, µs to validate, ratio, resources/s
Limit:   all types together take at most RATIO_MAX times what orjson takes to parse them; exit code 1 above it
Why:     a ratio measured in one run means the same on every machine
"""

import gzip
import sys
import time
from pathlib import Path

import orjson

from ehr.fhir.validate import validate

RATIO_MAX = 3.0
DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "synthea-100" / "ndjson"


def measure(lines: list[bytes]) -> tuple[float, float]:
    """Seconds to parse, and to validate, the best of three."""
    validate(orjson.loads(lines[0]))  # the types of this resource type are built once
    parsing = validating = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        trees = [orjson.loads(line) for line in lines]
        parsed = time.perf_counter()
        wrong = sum(1 for tree in trees if validate(tree))
        done = time.perf_counter()
        assert not wrong, f"{wrong} resources are not valid"
        parsing, validating = min(parsing, parsed - begun), min(validating, done - parsed)
    return parsing, validating


def main(folder: Path) -> int:
    files = sorted([*folder.glob("*.ndjson"), *folder.glob("*.ndjson.gz")])
    if not files:
        print(f"no NDJSON files in {folder}")
        return 75
    count, parsing, validating = 0, 0.0, 0.0
    print(f"{'type':24}{'resources':>10}{'parse µs':>10}{'check µs':>10}{'ratio':>8}{'per s':>10}")
    for file in files:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        lines = data.splitlines()
        parse_s, check_s = measure(lines)
        line(file.name.partition(".")[0], len(lines), parse_s, check_s)
        count, parsing, validating = count + len(lines), parsing + parse_s, validating + check_s
    line("all", count, parsing, validating)
    return int(validating / parsing > RATIO_MAX)


def line(name: str, count: int, parse_s: float, check_s: float) -> None:
    parse_us, check_us = parse_s / count * 1e6, check_s / count * 1e6
    print(f"{name:24}{count:>10}{parse_us:>10.1f}{check_us:>10.1f}{check_s / parse_s:>8.2f}{count / check_s:>10.0f}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT))
