"""A registered facility, as small as tests need it."""

from typing import Any


async def add_facility(
    connection: Any,
    code: str = "01Z01",
    *,
    kind: str = "station",
    feed: str = "hl7v2",
    organization_id: str | None = None,
) -> int:
    """Its row; the id. A facility that is there already stays as it is."""
    id: int = await connection.fetchval(
        "INSERT INTO facility (code, name, kind, feed, district, commune, commune_code, organization_id)"
        " VALUES ($1, $2, $3, $4, 'Ba Đình', 'Phúc Xá', '00001', $5)"
        " ON CONFLICT (code) DO UPDATE SET name = excluded.name RETURNING id",
        code,
        f"Station {code}",
        kind,
        feed,
        organization_id,
    )
    return id
