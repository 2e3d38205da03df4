"""Which tests run a line of the library, and how long each takes: recorded once, with one context for each test.

What a shared fixture runs belongs to the fixture, and so to every test that asks for it.
"""

import json
import sys
import time
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "lib" / "spectral_dynamics"
ROOMS = [LIBRARY / name for name in ("dynamics", "spectra", "networks")]
FILES = sorted(path for room in ROOMS for path in room.glob("*.py"))
ELSEWHERE = {"test_pages", "test_environment", "test_downloads", "test_chapters", "test_structure", "test_figures"}
ELSEWHERE |= {
    "test_processors",
    "test_mutants",
    "test_sweeps",
    "test_interrupted_sweeps",
}  # what they run is another process, or not the library


class Contexts:
    """A plugin for pytest: coverage with the name of the test, or of the fixture, that is running."""

    def __init__(self):
        self.coverage = coverage.Coverage(data_file=None, include=[str(room / "*") for room in ROOMS])
        self.seconds, self.fixtures, self.now = {}, {}, ""

    def switch(self, name: str) -> None:
        self.now = name
        self.coverage.switch_context(name)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.switch(item.nodeid)
        self.fixtures[item.nodeid] = [
            f"fixture {one.baseid} {one.argname}"
            for name in item.fixturenames
            for one in item._fixtureinfo.name2fixturedefs.get(name, ())
            if one.scope != "function"
        ]
        start = time.process_time()
        yielded = yield
        self.seconds[item.nodeid] = time.process_time() - start
        return yielded

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        before, shared = self.now, fixturedef.scope != "function"
        if shared:
            self.switch(f"fixture {fixturedef.baseid} {fixturedef.argname}")
        try:
            return (yield)
        finally:
            if shared:
                self.switch(before)


def tests() -> list[Path]:
    return sorted(path for path in (ROOT / "tests").glob("test_*.py") if path.stem not in ELSEWHERE)


def record(store: Path) -> dict:
    """Runs the tests of the library and keeps {"seconds": {test: s}, "lines": {file: {line: [tests]}}}."""
    plugin = Contexts()
    plugin.coverage.start()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *map(str, tests())], plugins=[plugin])
    plugin.coverage.stop()
    if code:
        sys.exit("The tests must be green before anything is changed.")
    data, lines = plugin.coverage.get_data(), {}
    for path in FILES:
        by_line = data.contexts_by_lineno(str(path))
        found = {line: _tests(set(contexts), plugin.fixtures) for line, contexts in by_line.items()}
        lines[str(path.relative_to(ROOT))] = {str(line): tests for line, tests in found.items() if tests}
    result = {"seconds": plugin.seconds, "lines": lines}
    store.parent.mkdir(parents=True, exist_ok=True)
    store.write_text(json.dumps(result), encoding="utf-8")
    return result


def _tests(contexts: set[str], fixtures: dict[str, list[str]]) -> list[str]:
    return sorted(test for test, asked in fixtures.items() if test in contexts or contexts & set(asked))


if __name__ == "__main__":
    record(ROOT / "_build" / "mutants" / "covering.json")
