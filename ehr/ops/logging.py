"""Turn log calls into lines that cannot hold personal data.

In:      structlog events with keyword values; records of libraries that use the standard logging
Out:     one JSON object a line (or a readable line with log_format=console) on standard error
Keeps:   only the keys of ALLOWED, and of an error only its class and the places it passed; a dropped key is named
         in "dropped" so that a developer sees the loss
Why:     Messages of exceptions quote data: a unique violation prints the key, a decoder prints the text. Library
         messages are f-strings of anything. So texts of both are left out and places are kept.
"""

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

import structlog

ALLOWED: Final = frozenset(
    {
        "attempts",
        "batch_id",
        "bytes",
        "channel",
        "chunk",
        "client",
        "count",
        "duration_ms",
        "error",
        "event",
        "exception",
        "facility",
        "host",
        "issue",
        "job_id",
        "kind",
        "level",
        "library",
        "message_id",
        "method",
        "pid",
        "port",
        "queue",
        "reader",
        "request_id",
        "route",
        "state",
        "status",
        "task",
        "timestamp",
        "topic",
        "version",
    }
)
"""Keys a log line may have: numbers, words of our own, ids of messages, jobs and facilities, never of a person."""

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The request a task works for; the edge sets it once, which costs less than binding it to a logger."""

_VALUE_CHARS_MAX: Final = 128
_FRAMES_MAX: Final = 24
_LIBRARIES_WITH_NEWS: Final = ("alembic", "celery", "kombu", "uvicorn")
"""They tell of every start, tick and migration."""

_LIBRARIES_WITH_PLAIN_TEMPLATES: Final = ("uvicorn", "celery", "kombu", "alembic")


def configure(level: str, log_format: str) -> None:
    """Send structlog and the standard logging through the allow-list to standard error. Called by composition roots."""
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            with_request_id,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            error_without_text,
            only_allowed,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.processors.TimeStamper(fmt="iso", utc=True)],
            processors=[library_record, structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _LIBRARIES_WITH_NEWS:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "DEBUG" else max(root.level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = name != "uvicorn.access"  # an access line holds the query, and so names and numbers


def with_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the request on every line that is written for it."""
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


def only_allowed(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep what ALLOWED names, shortened to plain values; name what was dropped."""
    kept: dict[str, Any] = {key: _plain(value) for key, value in event.items() if key in ALLOWED}
    dropped = sorted(key for key in event if key not in ALLOWED)
    if dropped:
        kept["dropped"] = dropped
    return kept


def error_without_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace exc_info by the classes of the error and its causes, and the places it passed; never by its text."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["exception"] = places(error)
    return event


def places(error: BaseException) -> list[str]:
    """ "Class at file:line function" from the innermost error outwards, without any text or value."""
    lines: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(lines) < _FRAMES_MAX:
        lines.append(type(seen).__name__)
        frames = traceback.extract_tb(seen.__traceback__)[-8:]
        lines.extend(f"  {_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)
        seen = seen.__cause__ or seen.__context__
    return lines[:_FRAMES_MAX]


def library_record(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A record of a library: who logged, from where, and its template where the library is known to use templates."""
    record: logging.LogRecord | None = event.get("_record")
    if record is None or event.get("_from_structlog"):
        return event
    template = f"{record.name} {record.module}:{record.lineno}"
    if record.name.partition(".")[0] in _LIBRARIES_WITH_PLAIN_TEMPLATES and isinstance(record.msg, str):
        template = record.msg.splitlines()[0][:_VALUE_CHARS_MAX] if record.msg else template
    kept: dict[str, Any] = {
        "event": template,
        "library": record.name,
        "level": record.levelname.lower(),
        "timestamp": event.get("timestamp"),
        "_record": record,
        "_from_structlog": False,
    }
    if record.exc_info and record.exc_info[1] is not None:
        kept["error"] = type(record.exc_info[1]).__name__
        kept["exception"] = places(record.exc_info[1])
    return kept


def _short(path: str) -> str:
    return "/".join(path.split("/")[-3:])


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return f"{len(value)} keys"
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return [one[:_VALUE_CHARS_MAX] for one in value[:_FRAMES_MAX]]
    return str(value)[:_VALUE_CHARS_MAX] if isinstance(value, str) else type(value).__name__
