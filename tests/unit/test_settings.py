"""Wrong settings are named when a command starts, with what to write instead; secrets are not repeated."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from typer.testing import CliRunner

from ehr import cli
from ehr.errors import Invalid
from ehr.settings import Settings
from sync import accounts


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"database_url": SecretStr("mysql://ehr:secret@db/ehr")}, "begins with postgresql://"),
        ({"data_dir": Path(__file__)}, "is a file"),
        ({"access": "maybe"}, "'enforced' or 'open'"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**given)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_accounts_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file") as refused:
        accounts.load(tmp_path / "absent.json")
    assert refused.value.issues[0].at == "EHR_INSURER_ACCOUNTS_FILE"


def test_a_state_that_no_message_has_is_refused() -> None:
    done = CliRunner().invoke(cli.app, ["message", "list", "--state", "nonsense"])
    assert done.exit_code == 2
