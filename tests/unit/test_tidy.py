"""Rules of the code that ruff and import-linter cannot see, read from the syntax tree.

Each names what it prevents; a named exception says why.
"""

import ast
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("ehr", "adapters", "sync", "terminology", "alembic", "benchmarks", "tests")
PROGRAM = ("ehr", "adapters", "sync", "terminology")
GENERATED = ROOT / "ehr" / "fhir" / "r4"

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

COMMITS = {
    "ehr/store/unit_of_work.py",  # the one commit of versions, index, claims, feed, outbox and audit together
    "ehr/jobs/queue.py",  # claims and ends of chunks are transactions of the queue's own, beside any version
}
CLOCKS = {
    "ehr/clock.py",  # the one clock
    "ehr/ids.py",  # UUIDv7 holds the time of its making, and nothing is ordered by it
}
EDGES = {
    "ehr/api/edge.py",  # HTTP: a bug becomes 500 without details
    "ehr/api/errors.py",
    "ehr/jobs/work.py",  # worker: a chunk's cause is kept, never lost
    "ehr/worker.py",  # worker: one bad outbox row must not stop the others
    "ehr/store/record.py",  # looks whether to run the transaction again, and raises everything else
    "adapters/mllp/server.py",  # MLLP connection: one sender's fault must not end the listener
    "adapters/pipeline.py",  # recovery: one message must not hold up the others
    "sync/schedule.py",  # one batch must not stop the city's others
    "adapters/facilities/traffic.py",  # a simulated sender: the other end of every edge above
}


def files(*rooms: str) -> list[Path]:
    found = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    assert len(found) > 50 or rooms != PROGRAM, "the rooms are where this test looks for them"
    return [path for path in found if GENERATED not in path.parents]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def broken(rule: Callable[[ast.Module], Iterator[int]], *rooms: str, but: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    return [
        f"{name_of(path)}:{line}" for path in files(*rooms) if name_of(path) not in but for line in rule(tree_of(path))
    ]


def test_files_are_short() -> None:
    long = {name_of(p): n for p in files(*ROOMS) if (n := len(p.read_text().splitlines())) > FILE_LINES_MAX}
    assert not long


def test_functions_are_short() -> None:
    def rule(tree: ast.Module) -> Iterator[int]:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= FUNCTION_LINES_MAX:
                    yield node.lineno

    assert not broken(rule, *ROOMS)


def test_modules_say_what_they_are() -> None:
    def is_silent(path: Path) -> bool:
        empty_package = path.name == "__init__.py" and not path.read_text().strip()
        return not empty_package and ast.get_docstring(tree_of(path)) is None

    assert not [name_of(path) for path in files(*ROOMS) if is_silent(path)]


def test_only_the_unit_of_work_commits() -> None:
    """A second commit tears apart what belongs together: an answer without its audit row, a version without index."""

    def rule(tree: ast.Module) -> Iterator[int]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                begins = node.func.attr == "transaction" and not node.args and _on_connection(node)
                if begins or node.func.attr == "commit":
                    yield node.lineno

    assert not broken(rule, *PROGRAM, but=COMMITS | {"ehr/ops/health.py"})


def _on_connection(node: ast.Call) -> bool:
    """`connection.transaction()`; `bundles.transaction(uow, …)` and others are something else."""
    assert isinstance(node.func, ast.Attribute)
    return isinstance(node.func.value, ast.Name | ast.Attribute) and "connection" in ast.unparse(node.func.value)


def test_only_the_clock_knows_the_time() -> None:
    """Ordering by clocks loses rows: two machines, one leap, and a version is never delivered."""
    asked = re.compile(r"(datetime\.(now|utcnow|today)|date\.today|time\.(time|time_ns|monotonic|monotonic_ns))$")

    def rule(tree: ast.Module) -> Iterator[int]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and asked.search(ast.unparse(node.func)):
                yield node.lineno

    assert not broken(rule, *PROGRAM, but=CLOCKS)


def test_no_value_is_written_into_sql() -> None:
    """A formatted statement needs a noqa that says whose text it is; without one, it may hold a stranger's."""
    verb = re.compile(r"^\s*(select|insert|update|delete|with|create|drop|alter|copy)\s", re.IGNORECASE)

    def rule(tree: ast.Module) -> Iterator[int]:
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
                formatted = [part for part in node.values if isinstance(part, ast.FormattedValue)]
                names = {ast.unparse(part.value) for part in formatted}
                if verb.match(str(node.values[0].value)) and any(not _ours(name) for name in names):
                    yield node.lineno

    assert not broken(rule, *PROGRAM)


def _ours(name: str) -> bool:
    """A constant of the module, a call that makes SQL from constants, the name of a table or column, or a count."""
    return bool(
        re.match(r"_?[A-Z][A-Z_0-9]*$|seen\(|len\(|_?\w*(table|column|columns|name|values|partition|alias)$", name)
    )


def test_broad_excepts_stand_at_the_edges() -> None:
    """Anywhere else a broad except turns a bug into silence."""

    def rule(tree: ast.Module) -> Iterator[int]:
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and _broad(node) and not _raises_again(node):
                yield node.lineno

    assert not broken(rule, *PROGRAM, but=EDGES)


def _broad(handler: ast.ExceptHandler) -> bool:
    caught = "" if handler.type is None else ast.unparse(handler.type)
    return caught in ("", "Exception", "BaseException")


def _raises_again(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None


def test_nothing_reads_the_environment_but_settings() -> None:
    def rule(tree: ast.Module) -> Iterator[int]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv"):
                yield node.lineno

    # serve hands its own environment on to the worker it starts.
    assert not broken(rule, *PROGRAM, but={"ehr/settings.py", "ehr/serve.py"})


def test_alembic_is_not_a_package() -> None:
    """An __init__.py there would shadow the library of the same name."""
    assert (ROOT / "alembic" / "env.py").exists()
    assert not (ROOT / "alembic" / "__init__.py").exists()


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "manager", "managers", "service", "services", "misc"])
def test_modules_have_names_of_the_domain(word: str) -> None:
    """A word that fits everything collects everything."""
    assert not [name_of(path) for path in files(*ROOMS) if word in re.split(r"[/_.]", name_of(path))]


def test_committed_files_name_no_machine() -> None:
    """A path or mirror of one machine breaks every other one."""
    places = re.compile("|".join([r"/wo" + r"rk/", r"/ro" + r"ot/", r"/ho" + r"me/\w", r"/o" + r"pt/pypi"]))
    kept = [path for room in (*ROOMS, "docs") for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".md")]
    kept += [*ROOT.glob("*.toml"), *ROOT.glob("*.lock"), *ROOT.glob("*.md"), ROOT / "Makefile"]
    named = [f"{name_of(p)}: {m[0]}" for p in kept if p.exists() for m in places.finditer(p.read_text())]
    assert not named
