"""PostgreSQL's refusals → ours: what may be tried again, and what the caller is told.

again    the transaction lost a race and may be run anew from its first statement
refused  the error the caller gets; None for what is a bug of ours
Source:  PostgreSQL appendix A, error codes (class 08, 40, 53, 55, 57)
"""

import errno
from typing import Final

import asyncpg

from ehr.errors import Busy, Duplicate, EhrError, NoRoom, Unavailable


class Raced(Duplicate):
    """Another transaction created the same resource between our look and our write."""


class IndexChanged(Busy):
    """The table of search parameters changed between our extraction and our write (docs/adr/0093)."""


TAKEN: Final = (asyncpg.UniqueViolationError, asyncpg.ExclusionViolationError)
"""Somebody has the id: as the default partition says it, and as those of one type do (ehr.database.partitions)."""

_AGAIN: Final = (IndexChanged, asyncpg.SerializationError, asyncpg.DeadlockDetectedError, Raced)
_BUSY: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.InsufficientResourcesError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    TimeoutError,
)
_AWAY: Final = "the database cannot be reached; send the same request again"
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""The database cannot be reached, or has ended the connection."""
TRANSLATED: Final = (*_BUSY, *LOST)
"""What refused() knows: errors of the database's state, not of our SQL."""


def again(error: BaseException) -> bool:
    """Whether a transaction that ended so may be run anew; the error may be the one refused() made of it."""
    return isinstance(error, _AGAIN) or isinstance(error.__cause__, _AGAIN)


def refused(error: BaseException) -> EhrError | None:
    """The answer to a caller whose transaction ended so. Nothing was stored, or, after a lost commit, perhaps all."""
    if isinstance(error, EhrError):
        return error
    if isinstance(error, asyncpg.DiskFullError):
        return NoRoom("the database has no room on its disk; send the same request again when it has")
    if isinstance(error, _BUSY):
        return Busy("the database is busy; send the same request again")
    if isinstance(error, OSError):
        return _of_the_system(error)
    return Unavailable(_AWAY) if isinstance(error, LOST) else None


def _of_the_system(error: OSError) -> EhrError | None:
    """A connection names no file; an error that names one is about that."""
    if error.errno in _FULL:
        return NoRoom("the disk has no room for the files that are written; send the same request again when it has")
    return Unavailable(_AWAY) if error.filename is None else None
