"""A dossier as it was sent, and what became of it → Claim and ClaimResponse.

Source: FHIR R4 Claim and ClaimResponse; columns as in ehr.fhir.vietnam. Money of a Claim is đồng: total is the whole
        cost at hospital prices, and the claim columns carry what is asked of the fund (T_BHTT) and the other totals.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from ehr.clock import instant
from ehr.fhir.elements import TERMINOLOGY, coded, reference
from ehr.fhir.vietnam import (
    DONG,
    EPISODE_LINK,
    FACILITY_CODE,
    ICD_10,
    MA_DICH_VU,
    MA_NHOM,
    MA_THUOC,
    MA_VAT_TU,
    REJECTION_REASON,
    SOCIAL_INSURANCE,
    columns_extension,
)
from sync.dossier import Columns
from sync.moments import date_of
from sync.opened import Opened

TRANSACTION_NUMBER: Final = "urn:city-ehr:sid:ma-giao-dich"
_INSTITUTIONAL: Final = coded(TERMINOLOGY + "claim-type", "institutional")
_INSURER: Final = {"display": SOCIAL_INSURANCE}
_TOTALS: Final = ("T_THUOC", "T_VTYT", "T_TONGCHI_BV", "T_TONGCHI_BH", "T_BNTT", "T_BNCCT", "T_BHTT", "T_NGUONKHAC")


@dataclass(frozen=True, slots=True)
class Parties:
    """Whom a claim is about and between, as ids. organization "" where the facility has no resource."""

    patient_id: str
    coverage_id: str
    encounter_id: str
    organization_id: str
    facility_code: str

    @property
    def provider(self) -> dict[str, Any]:
        if self.organization_id:
            return reference(f"Organization/{self.organization_id}")
        return {"identifier": {"system": FACILITY_CODE, "value": self.facility_code}}


def claim(
    dossier: Opened, parties: Parties, *, attempt: int, prior_id: str | None, created: datetime
) -> dict[str, Any]:
    """The Claim of one dossier as sent. prior_id: the Claim it corrects."""
    summary = dossier.summary
    tree: dict[str, Any] = {
        "resourceType": "Claim",
        "extension": [columns_extension({name: summary.get(name, "") for name in _TOTALS})],
        "identifier": [{"system": EPISODE_LINK, "value": f"{dossier.ma_lk}/{attempt}"}],
        "status": "active",
        "type": _INSTITUTIONAL,
        "use": "claim",
        "patient": reference(f"Patient/{parties.patient_id}"),
        "billablePeriod": {
            "start": date_of(summary["NGAY_VAO"]).isoformat(),
            "end": date_of(summary["NGAY_RA"]).isoformat(),
        },
        "created": instant(created),
        "insurer": _INSURER,
        "provider": parties.provider,
        "priority": coded(TERMINOLOGY + "processpriority", "normal"),
    }
    if prior_id is not None:
        tree["related"] = [
            {
                "claim": reference(f"Claim/{prior_id}"),
                "relationship": coded(TERMINOLOGY + "ex-relatedclaimrelationship", "prior"),
            }
        ]
    tree |= {
        "diagnosis": _diagnoses(summary),
        "insurance": [
            {"sequence": 1, "focal": True, "coverage": reference(f"Coverage/{parties.coverage_id}")},
        ],
        "item": [
            _item(number, row, parties)
            for number, row in enumerate(dossier.tables.get("XML2", []) + dossier.tables.get("XML3", []), start=1)
        ],
        "total": _money(summary["T_TONGCHI_BV"]),
    }
    return tree


def response(
    claim_tree: dict[str, Any], *, transaction: str, created: datetime, paid: Decimal | None, code: str, text: str
) -> dict[str, Any]:
    """The ClaimResponse. paid: what the insurer took over, in đồng; None where it refused, with its code and words."""
    tree: dict[str, Any] = {
        "resourceType": "ClaimResponse",
        "identifier": [{"system": TRANSACTION_NUMBER, "value": transaction}],
        "status": "active",
        "type": _INSTITUTIONAL,
        "use": "claim",
        "patient": claim_tree["patient"],
        "created": instant(created),
        "insurer": _INSURER,
        "requestor": claim_tree["provider"],
        "request": reference(f"Claim/{claim_tree['id']}"),
        "outcome": "error" if paid is None else "complete",
    }
    if paid is None:
        tree["disposition"] = text or code
        tree["error"] = [{"code": coded(REJECTION_REASON, code, text or code)}]
    else:
        category = coded(TERMINOLOGY + "adjudication", "benefit")
        tree["total"] = [{"category": category, "amount": _money(str(paid))}]
    return tree


def _diagnoses(summary: Columns) -> list[dict[str, Any]]:
    codes = [summary["MA_BENH_CHINH"], *(code for code in summary.get("MA_BENH_KT", "").split(";") if code)]
    return [
        {"sequence": number, "diagnosisCodeableConcept": coded(ICD_10, code)}
        for number, code in enumerate(codes, start=1)
    ]


def _item(number: int, row: Columns, parties: Parties) -> dict[str, Any]:
    kinds = ((MA_THUOC, "MA_THUOC", "TEN_THUOC"), (MA_VAT_TU, "MA_VAT_TU", "TEN_VAT_TU"))
    system, code, name = next((kind for kind in kinds if row.get(kind[1])), (MA_DICH_VU, "MA_DICH_VU", "TEN_DICH_VU"))
    return {
        "sequence": number,
        "category": coded(MA_NHOM, row["MA_NHOM"]),
        "productOrService": coded(system, row[code], row[name]),
        "servicedDate": date_of(row["NGAY_YL"]).isoformat(),
        "quantity": {"value": Decimal(row["SO_LUONG"]), "unit": row["DON_VI_TINH"]},
        "unitPrice": _money(row.get("DON_GIA") or row["DON_GIA_BV"]),
        "net": _money(row["THANH_TIEN_BV"]),
        "encounter": [reference(f"Encounter/{parties.encounter_id}")],
    }


def _money(text: str) -> dict[str, Any]:
    return {"value": Decimal(text), "currency": DONG}
