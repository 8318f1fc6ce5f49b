"""Extraction against its limit: orjson parsing the same lines, on one core.

Run:     python -m benchmarks.extract [FILE.ndjson[.gz]…]     default: synthea-100 beside the checkout
Out:     resources a second of parse alone and of extraction alone, and their ratio; entries a resource
Target:  60,000 resources a second of extraction
"""

import gc
import gzip
import sys
import time
from pathlib import Path

import orjson

from ehr.index.extract import Extractor
from ehr.index.hashing import Hasher

ROUNDS = 3
DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "synthea-100" / "ndjson"


def lines_of(paths: list[Path]) -> list[bytes]:
    read = [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths]
    return [line for content in read for line in content.splitlines() if line]


def parse_s(lines: list[bytes]) -> float:
    started = time.process_time()
    for line in lines:
        orjson.loads(line)
    return time.process_time() - started


def both_s(lines: list[bytes], extractor: Extractor) -> float:
    started = time.process_time()
    for line in lines:
        tree = orjson.loads(line)
        rows = extractor.extract(tree, tree["resourceType"], tree["id"])
        if rows.terms:  # as the store does once they are committed
            extractor.keep(rows.terms)
    return time.process_time() - started


def main(paths: list[Path]) -> None:
    lines = lines_of(paths)
    extractor = Extractor(Hasher(1))
    both_s(lines[:1_000], extractor)
    gc.disable()
    for _ in range(ROUNDS):
        parse, both = parse_s(lines), both_s(lines, extractor)
        extract = both - parse
        print(
            f"parse {len(lines) / parse:,.0f}/s  extract {len(lines) / extract:,.0f}/s"
            f"  extract/parse speed {parse / extract:.2f}"
        )
    entries = [0, 0, 0, 0]
    for line in lines:
        tree = orjson.loads(line)
        rows = extractor.extract(tree, tree["resourceType"], tree["id"])
        counts = (len(rows.tokens), len(rows.strings), len(rows.dates), len(rows.quantities))
        entries = [before + count for before, count in zip(entries, counts, strict=True)]
    shares = (f"{count / len(lines):.2f} {name}" for count, name in zip(entries, NAMES, strict=True))
    print(f"{len(lines):,} resources; a resource: " + ", ".join(shares))


NAMES = ("tokens", "strings", "dates", "quantities")

if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]] or sorted(DEFAULT.glob("*.ndjson.gz")))
