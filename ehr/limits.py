"""Every bound of the system, each with its reason. docs/limits.md is written from this file.

Names end in their unit. A test checks that every bound here is documented.
"""

from typing import Final

resource_bytes_max: Final = 5 * 1024 * 1024
"""One resource over HTTP: a 3 MiB scanned document as base64 fits."""

bundle_bytes_max: Final = 50 * 1024 * 1024
"""One Bundle over HTTP: the largest Synthea patient bundle seen is 27 MiB."""

bundle_entries_max: Final = 10_000
"""Entries of one batch or transaction: ten years of one patient; larger histories use bulk import."""

json_depth_max: Final = 64
"""Nesting of JSON: the deepest official R4 example is 20; contained Questionnaires go deeper."""

patch_operations_max: Final = 1_000
"""Operations of one patch: one for each element of a long resource; what changes more is an update."""
fhirpath_characters_max: Final = 10_000
"""Characters of one FHIRPath expression: the longest invariant of R4 has 531."""

fhirpath_depth_max: Final = 150
"""Nesting of one FHIRPath expression, and operands in a row: the deepest invariant of R4 has 24."""

fhirpath_steps_max: Final = 500_000
"""Items one evaluation may visit: one to three seconds; all descendants of a resource of 5 MiB are about 200,000."""

fhirpath_text_characters_max: Final = 1024 * 1024
"""Characters of a text one FHIRPath function may make, and of what a regular expression is tried on."""

profile_rounds_max: Final = 32
"""Rounds in which a check fetches the profiles that profiles name: IPS needs 6."""

patch_evaluation_s: Final = 2.0
"""All paths of one FHIRPath Patch: they are evaluated while the resource is locked; 1,000 plain ones take 0.1 s."""

search_values_max: Final = 1_000
"""Comma separated values of one search parameter."""

search_parameters_max: Final = 64
"""Parameters of one search."""

search_codes_max: Final = 10_000
"""Codes or resources that :in, :not-in, :above or :below stand for, and texts that begin as :text asks: each is an
index lookup."""
value_sets_deep_max: Final = 32
"""Value sets that are made of one another, the one within the other: published ones are three or four deep."""
expansion_codes_max: Final = 10_000
"""Codes of a value set given at once: a pick list has some hundred; more are asked for by count and offset."""
meta_values_max: Final = 1_000
"""Profiles, tags or security labels that $meta lists of the whole record or a type: a city has some dozens of each;
where every resource has its own, none is kept to be listed."""
names_folded_max: Final = 65_536
"""Names of codes a process remembers as a filter looks at them: ICD-10 in two languages has 37,000; some 200 bytes
each."""
concept_maps_max: Final = 100
"""Concept maps one $translate looks through where none is named: a city has some ten from one code system."""
search_parameters_added_max: Final = 200
"""Search parameters an installation adds, one for each base type: each is asked of every resource of its type that is
written."""

search_read_max: Final = 10_000
"""Resources one search reads, for _content or an order by tokens, references or uris: about a third of a second."""

searches_kept_max: Final = 512
"""Searches a process remembers as it understood them: what a screen asks is asked again; some kilobytes each."""

search_kept_characters_max: Final = 1_024
"""Characters of a query that is remembered: longer ones are seldom the same."""

search_chain_max: Final = 4
"""Links of one chain, or nested _has."""

narrative_words_max: Final = 2_000
"""Distinct words of one narrative that _text finds: about twenty printed pages; each is an index entry."""

page_count_default: Final = 20
"""_count when the client names none."""

page_count_max: Final = 1_000
"""_count above this is lowered to it, and the self link says so."""

page_moved_max: Final = 1_000
"""Changes looked at for one page of a walk whose order they change: some hundredths of a second; the next page has the
others."""

include_count_max: Final = 5_000
"""Included resources of one page; more are reached through the page's own next links."""

include_depth_max: Final = 8
"""Resources inside one another whose includes take pages of their own (:iterate); below, what does not fit is told."""

history_count_max: Final = 1_000
"""Versions on one history page."""

mllp_block_bytes_max: Final = 5 * 1024 * 1024
"""One HL7 message: a report with an embedded PDF."""

mllp_block_read_s: Final = 30.0
"""From the start block to the end block: 5 MiB at 1.5 Mbit/s."""

mllp_idle_s: Final = 300.0
"""An idle connection is closed; facilities reconnect."""

mllp_connections_max: Final = 2_000
"""Open facility connections of one listener: 661 facilities with three systems each."""

hl7_segments_max: Final = 20_000
"""Segments of one HL7 message: a week of monitor readings; a block of 5 MiB of empty ones would have over a million."""

hl7_values_max: Final = 200_000
"""Fields, repetitions, components and sub-components of one HL7 message: 10 000 lines of results. Each becomes an
object, so that a block of separators only would otherwise take a gigabyte."""

control_id_characters_max: Final = 200
"""Of the number a sender gives a message; what is longer is cut."""

claim_xml_bytes_max: Final = 50 * 1024 * 1024
"""One GIAMDINHHS envelope; live systems see 400 kB for an inpatient stay."""

claim_xml_dossiers_max: Final = 1_000
"""HOSO of one GIAMDINHHS envelope: a month of a commune station."""

claim_file_dossiers_max: Final = 50
"""Dossiers of one file to the insurer: sealing it stays well under a statement's and a transaction's time."""

claim_file_bytes_max: Final = claim_xml_bytes_max // 2
"""Bytes of the dossiers of one file to the insurer; what does not fit waits for the next."""

claim_round_files_max: Final = 700
"""Files one round of the insurance synchronisation sends and asks for: one for each facility of the city, and some."""

claim_round_pages_max: Final = 20
"""Pages of the change feed one round reads; the rest is the next round's."""

claim_page_changes_max: Final = 2_000
"""Changes on such a page: each names an episode to be read whole, in one transaction."""

episode_resources_max: Final = 10_000
"""Resources of one type in one episode, looked through when a later file replaces an earlier one; a stay of months has
some thousands."""

ndjson_line_bytes_max: Final = 5 * 1024 * 1024
"""One line of a bulk file: the same bound as one resource over HTTP."""

import_jobs_max: Final = 5
"""Imports of one client under way: each is worked on by all workers."""

import_files_max: Final = 10_000
"""Files of one $import: some for each type of each of 661 facilities; more are asked for in several."""

import_file_bytes_max: Final = 64 * 1024 * 1024 * 1024
"""One downloaded file: ten years of a large hospital, packed; the disk it is unpacked to is the operator's."""

import_unpacked_times_max: Final = 200
"""How many times its size a packed file may become: 36 with Synthea's claims, over 1,000 where it is to fill a disk."""

import_unpacked_bytes_free: Final = 1024 * 1024 * 1024
"""What any packed file may become: a small one that says one thing over and over harms nobody."""

import_silence_s: Final = 60.0
"""A file server that sends nothing for so long is given up; the job tries again."""

drop_quiet_s: Final = 5.0
"""A file in a drop folder that was not written to for so long is complete."""

import_chunk_bytes: Final = 8 * 1024 * 1024
"""Bytes of lines in one import chunk: memory is bounded by them."""

import_chunk_lines: Final = 50_000
"""Lines of one import chunk: what is held of a line is at least 5 KiB where it changes what is stored, however short it
is. Resources of usual length are not so many in a chunk."""

export_chunk_resources: Final = 50_000
"""Resources of one export chunk, about: some seconds of work, and a file of some 60 MiB."""

export_chunk_patients: Final = 500
"""Patients of one export chunk, where a Group or a list names them: some hundred MiB."""

export_slice_patients: Final = 20
"""Patients read by one statement: where files are organized by patient, so many are held at once, compressed."""

export_patients_max: Final = 10_000
"""Patients one $export names in its parameters; a Group may have more."""

group_nested_max: Final = 100
"""Groups that are members of a Group, and of those, and so on: each is a read."""

export_deletions_max: Final = 1_000
"""Deletions in one Bundle of an export's deleted file: a client can apply it as one transaction."""

view_rows_max: Final = 10_000
"""Rows of a view answered at once; more are exported."""

view_resources_max: Final = 50_000
"""Resources one such view looks at: some seconds of a process."""

job_files_life_s: Final = 7 * 24 * 3_600
"""Files of an export, and what an import tells of lines and keeps to be resumed, are kept so long after its end: a
weekend and some days to fetch them, or to mend what failed."""

import_job_life_s: Final = 30 * 24 * 3_600
"""What an import came to is told so long after its end: to who asked for it and on the console, where a month is looked
back on. The files of every facility's day are an import each."""

export_job_life_s: Final = 400 * 24 * 3_600
"""An export is known so long after its end: the next one since then, which may be a year's, is told what changed by the
snapshot of this one, and not by clocks."""

export_jobs_max: Final = 4
"""Exports of one client that are not over: each further one would only slow down the others."""

change_page_count_max: Final = 5_000
"""Rows a reader takes from the change feed at once."""

statement_s: Final = 10.0
"""One SQL statement of an interactive request."""

transaction_idle_s: Final = 30.0
"""A transaction that does nothing holds the change feed back: it is ended."""

database_retries_max: Final = 5
"""Retries of a transaction after a deadlock or serialization failure."""

outbox_attempts_max: Final = 20
"""Tries of one outbox row before an operator must look."""

job_chunk_attempts_max: Final = 5
"""Tries of one job chunk before it is failed with its cause."""

job_chunk_waits_max: Final = 150
"""Tries of one that ended because the database had no room on its disk, and do not count: a day of them. What needs
more room than there is must end too."""

job_lease_s: Final = 120.0
"""A worker that has not finished or renewed a chunk by then is taken for dead."""

token_life_s: Final = 3_600
"""Access tokens of system clients (SMART backend services asks for at most an hour)."""

citizen_token_life_s: Final = 12 * 3_600
"""Links printed by the demo and tokens of the identity app."""

operator_session_life_s: Final = 12 * 3_600
"""A shift at the console; who opened it signs in anew for the next."""

operator_link_life_s: Final = 600
"""Links of `ehr console`: long enough to be copied into a browser, too short to be found later."""

clock_skew_s: Final = 60
"""Tolerance for iat, nbf and exp of a token."""

summary_section_entries_max: Final = 100
"""Entries of one section of a summary, the newest; the narrative says how many were left out."""

summary_resources_max: Final = 20_000
"""Resources one summary looks through, newest first: a lifetime of dense hospital care."""

http_body_read_s: Final = 30.0
"""From a request's headers to the last byte of its body: 50 MiB at 15 Mbit/s."""

http_query_bytes_max: Final = 16 * 1024
"""The query of one address; longer searches are sent with POST _search."""

token_request_bytes_max: Final = 32 * 1024
"""The form of one token request: a client assertion with an RSA signature is 2 KiB."""

http_headers_read_s: Final = 10.0
"""From the first byte of a request to the end of its headers: a peer that drips them holds a connection no longer."""

http_headers_bytes_max: Final = 64 * 1024
"""Address and headers of one request: the query, a token of 4 KiB, and what proxies add."""

lastn_observations_max: Final = 5 * page_count_max
"""Observations one $lastn looks through: vital signs of some weeks in intensive care."""

docref_documents_max: Final = page_count_max
"""DocumentReferences one $docref without dates looks through for the most recent of each type."""

document_resources_max: Final = 1_000
"""Resources of one document that $document makes: a discharge letter has some dozens."""
