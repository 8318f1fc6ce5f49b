"""Facilities that export the national claim XML: GIAMDINHHS with the tables of QĐ 4750 and QĐ 3176."""

from adapters.claim_xml.bundle import bundle_of, episodes_of
from adapters.claim_xml.envelope import control_id
from adapters.claim_xml.replace import ASKED, last_files, replaced

__all__ = ["ASKED", "bundle_of", "control_id", "episodes_of", "last_files", "replaced"]
