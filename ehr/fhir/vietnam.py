"""How Vietnamese facts lie in FHIR resources here: identifier systems, code systems, and the claim columns.

One place for adapters (which write), sync (which reads) and the summary; pure names, and the columns that ride along.
Source: VN Core guide of the Ministry of Health (canonical http://fhir.ehealth.gov.vn/core) for persons, the draft of
        http://fhir.hl7.org.vn/core for facilities, episodes and claims; columns of QĐ 4750/3176.

Episode → resources, by the columns of XML1 to XML5
  Encounter       identifier MA_LK, MA_HSBA · type[].coding MA_LOAI_KCB · serviceType MA_KHOA · period NGAY_VAO, NGAY_RA
                  (both with time) · reasonCode[0].text LY_DO_VV · diagnosis[] (rank 1 = MA_BENH_CHINH; use AD on
                  admission, DD at discharge) → Condition.code ICD-10 · hospitalization.dischargeDisposition MA_LOAI_RV
                  claim columns: MA_DOITUONG_KCB KET_QUA_DTRI NGAY_VAO_NOI_TRU LY_DO_VNT MA_NOI_DI MA_NOI_DEN …
  Patient         identifier CCCD, BHYT, MA_BN · name.text · birthDate · gender · address[0].text
                  claim columns: MA_QUOCTICH MA_DANTOC MA_NGHE_NGHIEP MATINH_CU_TRU MAHUYEN_CU_TRU MAXA_CU_TRU
  Coverage        identifier (system INSURANCE_NUMBER) the card · beneficiary · period GT_THE_TU, GT_THE_DEN
                  claim columns: MA_DKBD MA_KHUVUC NAM_NAM_LIEN_TUC NGAY_MIEN_CCT
  Observation     body weight LOINC 29463-7 in kg gives CAN_NANG; category laboratory or imaging is a row of XML4:
                  code.coding MA_CHI_SO, code.text TEN_CHI_SO, value, issued NGAY_KQ; claim column MA_DICH_VU
                  category vital-signs makes a row of XML5 where no note does
  ClinicalImpression   a row of XML5: summary DIEN_BIEN_LS, date THOI_DIEM_DBLS, assessor NGUOI_THUC_HIEN
                  claim columns: GIAI_DOAN_BENH HOI_CHAN PHAU_THUAT

ChargeItem = one row of XML2 (drug) or XML3 (service or supply); status billable, or billed
  code.coding         system MA_THUOC, MA_DICH_VU or MA_VAT_TU (exactly one) · code.text = TEN_…
  context             the Encounter · subject the Patient · service → MedicationRequest, Procedure, Observation …
  quantity            value SO_LUONG, unit DON_VI_TINH
  priceOverride       VND, the whole line at hospital price = THANH_TIEN_BV (R4: "total price of the charge")
  factorOverride      TYLE_TT_DV / 100; absent = 1
  enteredDate         NGAY_YL (order) · occurrenceDateTime NGAY_TH_YL (carried out)
  enterer             MA_BAC_SI · performer[].actor NGUOI_THUC_HIEN: identifier of system PRACTISING_CERTIFICATE,
                      logical (reference.identifier) or on the Practitioner referred to
  claim columns       MA_NHOM always; DON_GIA (drug) or DON_GIA_BV and DON_GIA_BH (service, supply): unit prices;
                      TYLE_TT_BH (absent: 100), PHAM_VI (absent: 1), MUC_HUONG (absent: by the card),
                      MA_PTTT (absent: 1), NGUON_CTRA (absent: 1), MA_KHOA (absent: the Encounter's), HAM_LUONG
                      DUONG_DUNG LIEU_DUNG CACH_DUNG SO_DANG_KY TT_THAU NGAY_KQ MA_MAY MA_GIUONG T_NGUONKHAC_… …

Claim columns are one extension, CLAIM_COLUMNS, whose parts are the columns: url = the column's name, valueString =
its value exactly as it stands in the XML. Only columns with no FHIR element of their own need it; where a column is
there and in an element too, the column is what the facility said for the claim, and wins.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

NATIONAL_ID: Final = "http://fhir.ehealth.gov.vn/core/sid/national_id"
INSURANCE_NUMBER: Final = "http://fhir.ehealth.gov.vn/core/sid/insurance_number"
PASSPORT_NUMBER: Final = "http://fhir.ehealth.gov.vn/core/sid/passport_number"
PATIENT_NUMBER: Final = "http://fhir.ehealth.gov.vn/core/sid/patient-internal-id"
"""MA_BN: unique only within the facility; Identifier.assigner names the facility's Organization."""

FACILITY_CODE: Final = "http://fhir.hl7.org.vn/core/sid/ma-cskcb"
EPISODE_LINK: Final = "http://fhir.hl7.org.vn/core/sid/ma-lk"
RECORD_NUMBER: Final = "urn:city-ehr:sid:ma-hsba"
PRACTISING_CERTIFICATE: Final = "http://fhir.hl7.org.vn/core/sid/cchn"
CHARGE_NUMBER: Final = "urn:city-ehr:sid:charge-item"
"""ChargeItem.identifier: <MA_LK>/<table>/<STT>, so that a repeated feed updates the same row."""

MA_THUOC: Final = "urn:city-ehr:codes:thuoc"
MA_DICH_VU: Final = "urn:city-ehr:codes:dvkt"
MA_VAT_TU: Final = "urn:city-ehr:codes:vat-tu"
MA_CHI_SO: Final = "urn:city-ehr:codes:chi-so"
MA_LOAI_KCB: Final = "urn:city-ehr:codes:loai-kcb"
MA_LOAI_RV: Final = "urn:city-ehr:codes:loai-rv"
MA_KHOA: Final = "urn:city-ehr:codes:khoa"
MA_NHOM: Final = "urn:city-ehr:codes:nhom"
DUONG_DUNG: Final = "urn:city-ehr:codes:duong-dung"
CLAIM_TABLE: Final = "urn:city-ehr:codes:claim-table"
REJECTION_REASON: Final = "urn:city-ehr:codes:loi-giam-dinh"
"""Reason codes the insurer gives for a refused dossier."""

ICD_10: Final = "http://hl7.org/fhir/sid/icd-10"
ICD_9_CM: Final = "http://hl7.org/fhir/sid/icd-9-cm"
LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"
DIAGNOSIS_ROLE: Final = "http://terminology.hl7.org/CodeSystem/diagnosis-role"
OBSERVATION_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
ENCOUNTER_CLASS: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

SOCIAL_INSURANCE: Final = "Bảo hiểm xã hội Việt Nam"
"""The one payor, by name: no Organization of ours is its own."""

CLAIM_COLUMNS: Final = "urn:city-ehr:extension:claim-fields"
DONG: Final = "VND"

SEX_OF_GENDER: Final[Mapping[str, str]] = {"male": "1", "female": "2", "other": "3", "unknown": "3"}
"""FHIR administrative-gender → GIOI_TINH."""

GENDER_OF_SEX: Final[Mapping[str, str]] = {"1": "male", "2": "female", "3": "unknown"}
"""GIOI_TINH → FHIR administrative-gender."""


def columns_extension(columns: Mapping[str, str]) -> dict[str, Any]:
    """The extension that carries claim columns; empty values are left out. Never call it with none filled."""
    parts = [{"url": name, "valueString": value} for name, value in columns.items() if value]
    assert parts, "an extension has parts"
    return {"url": CLAIM_COLUMNS, "extension": parts}


def claim_columns(element: Mapping[str, Any]) -> dict[str, str]:
    """The claim columns of a resource or element, as they were sent; {} where it has none."""
    return dict(_columns(element))


def _columns(element: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for extension in element.get("extension", ()):
        if extension.get("url") != CLAIM_COLUMNS:
            continue
        for part in extension.get("extension", ()):
            value = part.get("valueString")
            if isinstance(value, str):
                yield part["url"], value
