"""Wrong settings are named when a command starts, with what to write instead; secrets are not repeated."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from typer.testing import CliRunner

from ehr import cli
from ehr.commands.terminal import EXIT_USAGE, settings_of
from ehr.errors import Invalid
from ehr.settings import Settings, unread
from sync import accounts


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"database_url": SecretStr("mysql://ehr:secret@db/ehr")}, "begins with postgresql://"),
        ({"data_dir": Path(__file__)}, "is a file"),
        ({"access": "maybe"}, "'enforced' or 'open'"),
        ({"broker_url": SecretStr("broker.internal:6379/secret")}, "begins with redis://"),
        ({"base_url": "ehr.example.org/fhir"}, "begins with https://"),
        ({"insurer_url": "http://"}, "names a host"),
        ({"insurer_accounts_file": Path("absent.json")}, "no file absent.json"),
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


def test_what_is_empty_is_not_set_and_slashes_end_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "SID_NATIONAL_ID", "PORT", "IMPORT_URLS"):
        monkeypatch.setenv(f"EHR_{name}", "")
    monkeypatch.setenv("EHR_BASE_URL", "https://ehr.example.org/fhir/")
    assert Settings() == Settings(base_url="https://ehr.example.org/fhir")
    assert Settings().sid_national_id.startswith("http://")


def test_what_is_no_setting_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EHR_DATABSE_URL", "postgresql://secret@db/ehr")
    monkeypatch.setenv("EHR_PORT", "1")
    monkeypatch.setenv("ehr_host", "localhost")
    assert "EHR_DATABSE_URL" in unread()
    assert not {"EHR_PORT", "ehr_host"} & set(unread())
    settings_of()
    told = capsys.readouterr().err
    assert "ehr: EHR_DATABSE_URL is no setting, and is not read\n" in told
    assert "secret" not in told


def test_a_list_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EHR_IMPORT_URLS", "https://files.example.org/")
    monkeypatch.setattr("sys.argv", ["ehr", "facility", "list"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == EXIT_USAGE
    assert "import_urls" in capsys.readouterr().err


def test_a_state_that_no_message_has_is_refused() -> None:
    done = CliRunner().invoke(cli.app, ["message", "list", "--state", "nonsense"])
    assert done.exit_code == 2
