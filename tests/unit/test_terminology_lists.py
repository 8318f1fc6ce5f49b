"""terminology.lists: the rows fit together, so that whoever uses one finds the others."""

from ehr.fhir import vietnam
from terminology.lists import (
    CODE_LISTS,
    DIAGNOSES,
    DIAGNOSIS_BY_CODE,
    ICD_10,
    INGREDIENT,
    LAB_TESTS,
    LOINC,
    MEDICINES,
    SERVICE,
    SERVICE_BY_CODE,
    SERVICES,
    UCUM,
)


def test_codes_occur_once() -> None:
    for rows in (DIAGNOSES, LAB_TESTS, SERVICES):
        codes = [row.code for row in rows]
        assert len(codes) == len(set(codes))
    products = [(row.code, row.strength) for row in MEDICINES]
    assert len(products) == len(set(products))


def test_rows_refer_to_rows_that_are_there() -> None:
    assert all(test.service in SERVICE_BY_CODE for test in LAB_TESTS if test.service is not None)
    assert all(code in DIAGNOSIS_BY_CODE for medicine in MEDICINES for code in medicine.indications)
    assert all(str(service.group) in CODE_LISTS["MA_NHOM"] for service in SERVICES)


def test_laboratory_tests_are_paid_for_and_vital_signs_are_not() -> None:
    assert all((test.service is None) == (test.category == "vital-signs") for test in LAB_TESTS)


def test_ranges_are_in_order_and_written_with_the_decimals_of_the_test() -> None:
    for test in LAB_TESTS:
        assert (test.low is None) == (test.high is None)
        if test.low is not None and test.high is not None:
            assert test.unit
            assert test.low < test.high
            assert all(bound == round(bound, test.decimals) for bound in (test.low, test.high))


def test_diagnoses_fit_whom_they_can() -> None:
    childbirth = DIAGNOSIS_BY_CODE["O80.9"]
    assert childbirth.fits("female", 28)
    assert not childbirth.fits("male", 28)
    assert not childbirth.fits("female", 60)
    assert not DIAGNOSIS_BY_CODE["Z34.9"].main
    for age in range(0, 100, 5):
        for sex in ("male", "female"):
            assert sum(one.weight for one in DIAGNOSES if one.fits(sex, age)) > 100


def test_prices_are_positive_and_names_are_there() -> None:
    assert all(price > 0 for price in [*(row.price_vnd for row in MEDICINES), *(row.price_vnd for row in SERVICES)])
    for names in (
        [(row.name_vi, row.name_en) for row in DIAGNOSES],
        [(row.name_vi, row.name_en) for row in LAB_TESTS],
        [(row.name_vi, row.name_en) for row in SERVICES],
    ):
        assert all(all(pair) for pair in names)


def test_code_lists_hold_what_claims_need() -> None:
    assert CODE_LISTS["KET_QUA_DTRI"]["1"].name_vi == "Khỏi"
    assert CODE_LISTS["MA_LOAI_KCB"]["03"].name_en == "Inpatient"
    assert CODE_LISTS["MA_DANTOC"]["01"].name_vi == "Kinh"
    assert len(CODE_LISTS["MA_DANTOC"]) == 56


def test_systems_are_those_of_the_record() -> None:
    """A list under another name would explain no code that is stored."""
    ours = (vietnam.ICD_10, vietnam.LOINC, vietnam.UCUM, vietnam.MA_THUOC, vietnam.MA_DICH_VU)
    assert ours == (ICD_10, LOINC, UCUM, INGREDIENT, SERVICE)
