"""A backup is a data folder: what was committed before it is in it, and it goes a way of its own."""

from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner

from ehr import cli
from ehr.access.keys import load_keys
from ehr.database.backup import backup
from ehr.database.embedded import EmbeddedPostgres
from ehr.errors import Invalid


async def rows(url: str, *, adding: int | None = None) -> list[int]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("create table if not exists kept (n int)")
        if adding is not None:
            await connection.execute("insert into kept values ($1)", adding)
        return [row["n"] for row in await connection.fetch("select n from kept order by n")]
    finally:
        await connection.close()


async def test_a_backup_holds_what_was_committed_and_lives_on_its_own(data_dir: Path) -> None:
    home, copy = data_dir / "home", data_dir / "copy"
    load_keys(home)
    original, restored = EmbeddedPostgres(home), EmbeddedPostgres(copy)
    try:
        url = await original.start()
        await rows(url, adding=1)
        await backup(home, copy)
        await rows(url, adding=2)
        with pytest.raises(Invalid, match="not empty"):
            await backup(home, copy)
        assert await rows(await restored.start(), adding=3) == [1, 3]
        assert await rows(url) == [1, 2]
    finally:
        await restored.stop()
        await original.stop()
    key = Path("keys") / "token-signing.jwk"
    assert (copy / key).read_bytes() == (home / key).read_bytes()
    assert (copy / key).stat().st_mode & 0o077 == 0


async def test_where_there_is_no_database_nothing_is_made(data_dir: Path) -> None:
    with pytest.raises(Invalid, match="no embedded database"):
        await backup(data_dir, data_dir / "copy")
    assert not (data_dir / "copy").exists()


def test_an_outside_database_is_sent_to_its_own_tools(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EHR_DATABASE_URL", "postgresql://x@127.0.0.1:1/x")
    done = CliRunner().invoke(cli.app, ["db", "backup", str(data_dir / "copy"), "--data-dir", str(data_dir)])
    assert "pg_basebackup" in str(done.exception)
