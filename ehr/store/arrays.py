"""Columns of many rows → texts that PostgreSQL reads as arrays: $1::text::bigint[].

Why:     the driver encodes an array element by element and asks of each whether it is an array itself: 1.5 µs an
         element, and a resource makes forty of them. Joining texts takes a twentieth of that, and reading them takes
         the server 0.05 µs
Source:  PostgreSQL documentation, 8.15.6 "Array Input and Output Syntax"
"""

from collections.abc import Iterable


def numbers(values: Iterable[int | float | None]) -> str:
    """Integers and floats; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else repr(value) for value in values]) + "}"


def texts(values: Iterable[str]) -> str:
    """Any text but U+0000, which PostgreSQL cannot hold."""
    given = list(values)
    if not given:
        return "{}"
    joined = "".join(given)
    if '"' in joined or "\\" in joined:
        given = [value.replace("\\", "\\\\").replace('"', '\\"') for value in given]
    return '{"' + '","'.join(given) + '"}'
