"""A folder for one run: its database and its files."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path


@contextmanager
def scratch(kept: Path | None = None) -> Iterator[Path]:
    """Gone with the run, unless it is to be kept; open to the account that PostgreSQL runs as where root runs it."""
    with _temporary() if kept is None else nullcontext(kept) as place:
        folder = Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        yield folder


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ehr-bench-", ignore_cleanup_errors=True)
