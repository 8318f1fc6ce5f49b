"""Which columns of a claim row travel beside the resource or segment that has no element or field of its own for them.

Out:     column names by what they belong to; the FHIR Bundles put them into the claim extension, HL7 into ZCC segments
Source:  ehr.fhir.vietnam; columns of QĐ 4750/3176
"""

from typing import Final

PATIENT: Final = ("MA_QUOCTICH", "MA_DANTOC", "MA_NGHE_NGHIEP", "MATINH_CU_TRU", "MAHUYEN_CU_TRU", "MAXA_CU_TRU")
CARD: Final = ("MA_DKBD",)
VISIT: Final = (
    "MA_DOITUONG_KCB",
    "KET_QUA_DTRI",
    "NGAY_VAO_NOI_TRU",
    "LY_DO_VNT",
    "MA_NOI_DI",
    "MA_NOI_DEN",
    "GIAY_CHUYEN_TUYEN",
    "SO_NGAY_DTRI",
    "PP_DIEU_TRI",
    "MA_PTTT_QT",
    "GHI_CHU",
    "NGAY_TTOAN",
    "NGAY_TAI_KHAM",
    "MA_TTDV",
)
_CHARGE: Final = ("MA_NHOM", "PHAM_VI", "TYLE_TT_BH", "MUC_HUONG", "MA_PTTT", "MA_KHOA")
DRUG: Final = (
    *_CHARGE,
    "HAM_LUONG",
    "DUONG_DUNG",
    "DANG_BAO_CHE",
    "LIEU_DUNG",
    "CACH_DUNG",
    "SO_DANG_KY",
    "TT_THAU",
    "DON_GIA",
    "NGUON_CTRA",
)
SERVICE: Final = (
    *_CHARGE,
    "DON_GIA_BV",
    "DON_GIA_BH",
    "MA_PTTT_QT",
    "MA_GIUONG",
    "MA_BENH",
    "NGAY_KQ",
    "PP_VO_CAM",
    "MA_MAY",
)
CHARGE_IN_HL7: Final = ("DON_VI_TINH", "TYLE_TT_DV", *dict.fromkeys((*DRUG, *SERVICE)))
"""FT1 is one segment for both, and has no field for the unit and the rate either."""
