"""What the contracts of all kinds of specs have in common."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sca_bench.contract.broken import Broken, expect
from sca_bench.plugins import Registry, attribute


class SpecContract:
    """Tests of what one spec describes; pytest collects a subclass that names the spec.

    While a test runs, the spec is registered, whatever is installed. `setup_method` and
    `teardown_method` see to that; pytest calls them, and another runner has to.

    Attributes:
        spec: What is tested.
        code: Fields of the spec that name code as `module:attribute`.
    """

    spec: Any = None
    code: tuple[str, ...] = ()

    @classmethod
    def registry(cls) -> Registry[Any]:
        """Return the registry of that kind of specs."""
        raise NotImplementedError

    def setup_method(self, method: object = None) -> None:
        """Register the spec, and make room for files."""
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(self.registry().also(self.spec))
        made = tempfile.TemporaryDirectory(prefix="sca_bench_contract_")
        self.folder = Path(self._stack.enter_context(made))

    def teardown_method(self, method: object = None) -> None:
        """Undo what `setup_method` did."""
        self._stack.close()

    def example(self) -> Mapping[str, Any]:
        """Return the settings that the spec's `example` gives for the tests; none without one.

        Override it where a test class says them itself. Files may be made in `self.folder`.
        """
        if not self.spec.example:
            return {}
        given: Mapping[str, Any] = attribute(self.spec.example)(self.folder)
        return given

    def test_what_it_names_is_there(self) -> None:
        """Code that the spec names as `module:attribute` can be imported and called."""
        for field in (*self.code, "example"):
            path = getattr(self.spec, field, "")
            if not path:
                continue
            try:
                found = attribute(path)
            except Exception as error:
                rule = f"{field}={path!r} names what can be imported"
                fix = "correct the name, or what the module imports"
                raise Broken(rule, f"{type(error).__name__}: {error}", fix) from error
            rule = f"{field}={path!r} names something to call"
            expect(callable(found), rule, type(found).__name__, "name a function or a class")

    def test_it_says_what_it_is(self) -> None:
        """A list of all there is can show it: a summary of one line."""
        summary = self.spec.summary
        is_line = isinstance(summary, str) and summary.strip() and "\n" not in summary
        rule = "a `summary` of one line, for `sca_bench list`"
        expect(is_line, rule, repr(summary), "say in a line what it does")
