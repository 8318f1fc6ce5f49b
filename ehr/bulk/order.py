"""What an import is asked to do, apart from its files: read from the parameters of its job."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from ehr.errors import Malformed


@dataclass(frozen=True, slots=True)
class Order:
    """facility_id  who sends it; 0 = the city itself
    keep_meta    new resources keep the sender's meta.versionId and meta.lastUpdated
    references   report  tell at the end which references lead nowhere
                 refuse  store no line with a reference that leads nowhere (ehr.bulk.settle)
                 ignore  do not look
    """

    facility_id: int = 0
    keep_meta: bool = False
    references: str = "report"

    def __post_init__(self) -> None:
        if self.references not in ("report", "refuse", "ignore"):
            raise Malformed("references is report, refuse or ignore", at="references")

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        return cls(**{name: params[name] for name in cls.__dataclass_fields__ if name in params})

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
