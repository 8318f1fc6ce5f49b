"""Values that may be used once: true the first time, false ever after.

In:      a kind ("assertion", "link"), a key (issuer and jti), and until when a second use must be seen; or the claims
         of a link, which says itself whether it is of this sort
Out:     whether this use was the first, decided by a primary key, so that two processes cannot both be first
Source:  RFC 7523 3 (jti of a client assertion)
"""

from datetime import UTC, datetime
from typing import Any, Final

from ehr import limits
from ehr.access.token import Claims

_SPEND: Final = "INSERT INTO spent (kind, key, until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING key"
_FORGET: Final = "DELETE FROM spent WHERE until < $1"


async def spend(connection: Any, kind: str, key: str, until: datetime) -> bool:
    """True when nobody used this value before; it is used now."""
    return await connection.fetchval(_SPEND, kind, key, until) is not None


async def may_enter(connection: Any, link: Claims) -> bool:
    """Whether a link still opens its page; one that works once does not after this."""
    until = datetime.fromtimestamp(link.expires_s + limits.clock_skew_s, UTC)
    return not link.once or await spend(connection, "link", link.token_id, until)


async def forget(connection: Any, before: datetime) -> None:
    """Drop what has expired by itself: a token past its exp is refused without this table."""
    await connection.execute(_FORGET, before)
