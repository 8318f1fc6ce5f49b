"""`python -m ehr` is the `ehr` command, for child processes that must run under the same interpreter."""

from ehr.cli import main

main()
