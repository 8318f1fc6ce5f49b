"""The one name for a connection as the pool hands it out; asyncpg's own types are generic only in its stubs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[Any] | PoolConnectionProxy[Any]
    Row = asyncpg.Record
else:
    Connection = Any
    Row = Any

__all__ = ["Connection", "Row"]
