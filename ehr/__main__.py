"""The `ehr` command, also as `python -m ehr`, for child processes that must run under the same interpreter.

Cost:    a quarter of its start went into looking for cycles among what is imported, which stays until the end
"""

import gc

gc.disable()

from ehr import cli  # noqa: E402 - not before


def main() -> None:
    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
