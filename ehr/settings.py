"""Settings: one frozen object, read from EHR_* variables in a composition root and passed down.

Nothing else reads the environment. docs/operations.md lists every field; a test checks it.
"""

import os
import re
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

BROKERS: Final = ("redis://", "rediss://", "redis+socket://", "amqp://", "amqps://")
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
"""As a browser writes it: no path, no final slash, in lower case."""
_ADDRESS: Final = re.compile(r"https?://[^/\s]")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="EHR_", env_ignore_empty=True, frozen=True, extra="forbid")

    data_dir: Path = Field(Path("data"), description="Where the embedded database, broker, keys and drop folders live.")
    database_url: SecretStr | None = Field(
        None, description="postgresql://… of an outside PostgreSQL 15+; empty starts the embedded one."
    )
    broker_url: SecretStr | None = Field(
        None, description="redis://… or amqp://… for Celery; empty starts the embedded Valkey."
    )
    postgres_bin: Path | None = Field(
        None, description="Folder with initdb and postgres for the embedded database; empty takes the wheel's."
    )
    base_url: str | None = Field(
        None, description="Public address of the FHIR base, without a final slash; empty derives it from host and port."
    )
    access: Literal["enforced", "open"] = Field(
        "enforced", description="open lets loopback callers act as the system without a token; never on another host."
    )
    host: str = Field("127.0.0.1", description="Address the HTTP server and the MLLP listener bind to.")
    port: int = Field(8000, ge=0, le=65535, description="HTTP port.")
    mllp_port: int = Field(2575, ge=0, le=65535, description="MLLP port.")
    insurer_url: str = Field(
        "http://127.0.0.1:8090", description="Base address of the social insurance gateway (or its simulator)."
    )
    insurer_accounts_file: Path | None = Field(
        None, description="JSON file {facility code: {username, password}}; empty uses the simulator's accounts."
    )
    pool_connections_max: int = Field(10, ge=2, description="Database connections of one process.")
    import_root: Path | None = Field(
        None, description="Folder whose files $import may name by their path; empty: none."
    )
    import_urls: tuple[str, ...] = Field(
        (),
        description='JSON list of addresses below which $import may fetch files: ["https://files.example.org/ehr/"].',
    )
    import_private: bool = Field(False, description="Let $import fetch from loopback and private networks.")
    cors_origins: tuple[str, ...] = Field(
        (),
        description="JSON list of origins whose pages may call the FHIR API from a browser: "
        '["https://app.example.org"], or ["*"] for any; empty: none.',
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    log_format: Literal["json", "console"] = Field("json", description="json for machines, console for people.")
    profile_claims: Literal["checked", "trusted"] = Field(
        "checked",
        description="checked refuses a write that breaks a profile it claims in meta.profile, where that profile is "
        "stored here; trusted does not look.",
    )
    sid_national_id: str = Field(
        "http://fhir.ehealth.gov.vn/core/sid/national_id", description="Identifier system of CCCD."
    )
    sid_insurance_number: str = Field(
        "http://fhir.ehealth.gov.vn/core/sid/insurance_number", description="Identifier system of the BHYT card."
    )
    sid_passport: str = Field(
        "http://fhir.ehealth.gov.vn/core/sid/passport_number", description="Identifier system of passports."
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and not given.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("the address of a PostgreSQL begins with postgresql://")
        return given

    @field_validator("broker_url")
    @classmethod
    def _is_a_broker(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and not given.get_secret_value().startswith(BROKERS):
            raise ValueError("the address of a broker begins with redis://, rediss://, amqp:// or amqps://")
        return given

    @field_validator("base_url", "insurer_url")
    @classmethod
    def _is_an_address(cls, given: str | None) -> str | None:
        if given is not None and not _ADDRESS.match(given):
            raise ValueError("an address begins with https:// or http:// and names a host")
        return given.rstrip("/") if given is not None else None

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            if one != "*" and not _ORIGIN.fullmatch(one):
                raise ValueError(f"{one} is no origin: https://host[:port] in lower case, without a path, or *")
        return given

    @field_validator("insurer_accounts_file")
    @classmethod
    def _is_there(cls, given: Path | None) -> Path | None:
        if given is not None and not given.is_file():
            raise ValueError(f"there is no file {given}")
        return given

    @field_validator("data_dir")
    @classmethod
    def _is_no_file(cls, given: Path) -> Path:
        if given.exists() and not given.is_dir():
            raise ValueError(f"{given} is a file: name a folder")
        return given


def unread() -> list[str]:
    """Names in the environment that look like settings of ours and are none: misspelt, or of another version."""
    known = {f"EHR_{name.upper()}" for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.upper().startswith("EHR_") and name.upper() not in known)
