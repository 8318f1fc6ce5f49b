"""Read the committed CSV tables of this room: data/<name>.csv, whose lines beginning with # tell their source."""

import csv
from collections.abc import Iterator
from importlib.resources import files


def rows(name: str) -> Iterator[dict[str, str]]:
    """The rows of data/<name>.csv by column."""
    text = files("adapters.facilities").joinpath(f"data/{name}.csv").read_text("utf-8")
    yield from csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
