"""cpython.py MODULE [LEFT-OUT...]: runs a module of CPython's own test-suite and prints one line for each test: its end and its name.
Tests whose name has LEFT-OUT in it are not run."""

import os
import sys
import unittest

from test import support


class Ends(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.ends = {}

    def note(self, test, end):
        self.ends.setdefault(test.id(), end)

    def explain(self, test, end, error):
        self.ends[test.id()] = end
        sys.stderr.write(f"{end} {test.id()}\n{self._exc_info_to_string(error, test)}\n")

    def addSuccess(self, test):
        self.note(test, "ok")

    def addSkip(self, test, reason):
        self.note(test, "skip")

    def addExpectedFailure(self, test, error):
        self.note(test, "expected-failure")

    def addUnexpectedSuccess(self, test):
        self.note(test, "unexpected-success")

    def addFailure(self, test, error):
        self.explain(test, "fail", error)

    def addError(self, test, error):
        self.explain(test, "error", error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.explain(test, "fail", error)


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def without(suite, left_out):
    return unittest.TestSuite(t for t in tests_of(suite) if not any(name in t.id() for name in left_out))


def main():
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what tests print is not the report
    os.chdir("/tmp")
    support.use_resources = []
    for name in ("LOOPBACK_TIMEOUT", "INTERNET_TIMEOUT", "SHORT_TIMEOUT", "LONG_TIMEOUT"):
        setattr(support, name, 1000.0)
    ends = Ends()
    module, *left_out = sys.argv[1:]
    suite = unittest.defaultTestLoader.loadTestsFromName(f"test.{module}")
    (without(suite, left_out) if left_out else suite).run(ends)
    for name, end in sorted(ends.ends.items()):
        print(end, name, file=report)


if __name__ == "__main__":
    main()
