"""What a caller is told of an error depends on whose it is: the database's, the disk's, or that of a file."""

import errno

import asyncpg
import pytest

from ehr.errors import Busy, EhrError, NoRoom, Unavailable
from ehr.store import faults


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (asyncpg.DiskFullError("could not extend file"), NoRoom, "the database has no room"),
        (OSError(errno.ENOSPC, "No space left on device"), NoRoom, "the files that are written"),
        (OSError(errno.ENOSPC, "No space left on device", "/exports/1"), NoRoom, "the files that are written"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), NoRoom, "the files that are written"),
        (asyncpg.TooManyConnectionsError("sorry"), Busy, "is busy"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), Unavailable, "cannot be reached"),
        (FileNotFoundError(errno.ENOENT, "no socket"), Unavailable, "cannot be reached"),
    ],
)
def test_an_error_of_the_installation_is_told_as_what_it_is(error: Exception, kind: type[EhrError], says: str) -> None:
    told = faults.refused(error)
    assert type(told) is kind
    assert says in str(told)


def test_a_file_that_cannot_be_opened_is_no_database_that_is_away() -> None:
    assert faults.refused(PermissionError(errno.EACCES, "Permission denied", "/exports/1")) is None
