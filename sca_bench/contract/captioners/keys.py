"""What the key of a variant's cells must hold: every setting that changes an answer."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from sca_bench.captioner import SharesPrefix
from sca_bench.contract.broken import Broken, expect, skip
from sca_bench.contract.captioners.cell import CellContract
from sca_bench.contract.captioners.tensors import different, some, tensors_of
from sca_bench.engine.worker.rng import RngStream
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings, Kind, items_of
from sca_bench.settings.base import plain_types
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import path_settings
from sca_bench.study.suite.merge import merge, nest

_OF_THE_ENGINE = ("variant", "data", "runtime", "note", "start_from", "pretraining", "features")
"""Sections that a variant's own code does not read."""
_NO_FILE = "no_such_file_of_the_contract"


@dataclass(frozen=True)
class Changed:
    """A setting with another value that fits.

    Attributes:
        path: Its dotted path.
        kind: Its kind.
        value: The other value.
    """

    path: str
    kind: Kind
    value: Any


class KeyContract(CellContract):
    """Tests of what enters a key; another value of a setting is tried, and answers compared."""

    def test_every_option_enters_the_key(self) -> None:
        """Another value of an option makes another cell, unless the spec says it is ignored."""
        settings = self.settings()
        options = [c for c in changed_settings(settings) if c.path.startswith("options.")]
        if not options:
            skip("it has no options")
        key = key_of(settings)
        silent = [
            c.path
            for c in options
            if c.kind == "result"
            and not _named(c.path, self.spec.ignores)
            and key_of(with_change(settings, c)) == key
        ]
        rule = "another key for another value of an option"
        fix = 'name "options" in `reads`; where it moves no number, mark it of_kind("cost")'
        expect(not silent, rule, f"the same key for {some(silent)}", fix)

    def test_what_is_no_part_of_the_key_changes_no_answer(self) -> None:
        """Settings that are ignored, or cost time only, leave weights, loss and captions alike."""
        fix = "name {path} in `reads` and not in `ignores`, or mark an option that moves numbers"
        fix += ' of_kind("result"); or do not read it'
        self._nothing_changes(key_of, self._seen, "which is no part of the key", fix)

    def test_features_depend_on_what_shares_them(self) -> None:
        """Settings that cells of one group may differ in leave their frozen features alike."""
        if not isinstance(self.built(self.settings()), SharesPrefix):
            skip("it shares no frozen features")
        if self.spec.shares_sams_features:
            skip("its frozen features are those of this package's SAM")
        fix = "name {path} in `frozen_reads`, or do not read it in `frozen_features` and `parts`"
        what = "in which cells that share features may differ"
        self._nothing_changes(_prefix_of, self._frozen, what, fix)

    def _nothing_changes(
        self,
        key: Callable[[CellSettings], str],
        observe: Callable[[CellSettings], _Seen],
        what: str,
        fix: str,
    ) -> None:
        """Try other values of all settings that leave a key as it is.

        Args:
            key: The key.
            observe: What has to stay the same.
            what: Describes such a setting, in words.
            fix: What to do about one that changes something; `{path}` stands for its name.
        """
        settings = self.settings()
        silent = [
            c
            for c in changed_settings(settings)
            if not _named(c.path, _OF_THE_ENGINE) and key(with_change(settings, c)) == key(settings)
        ]
        before = observe(settings)
        for one in _left(settings, silent, observe, before):
            rule = f"{one.path}={one.value!r}, {what}, changes nothing"
            _alike(rule, fix.format(path=one.path), one, settings, observe, before)

    def _frozen(self, settings: CellSettings) -> _Seen:
        captioner: Any = self.built(settings)
        with torch.no_grad():
            features = captioner.frozen_features(self.batch())
        tensors = {name: one for name, one in vars(features).items() if isinstance(one, Tensor)}
        return _Seen(tensors, [], 0.0)

    def _seen(self, settings: CellSettings) -> _Seen:
        captioner, batch = self.built(settings), self.batch()
        loss = 0.0
        if self.spec.trains == "gradient":
            learner: Any = captioner
            given = self.as_engine_gives(captioner, batch)
            learner.train()
            with RngStream(3, torch.device("cpu")).active(), torch.no_grad():
                loss = float(learner.loss(given))
            learner.eval()
        said = [(p.caption, p.log_prob) for p in self._generate(captioner, batch)]
        return _Seen(tensors_of(captioner), said, loss)


@dataclass(frozen=True)
class _Seen:
    """What a captioner is, says and costs."""

    tensors: Mapping[str, Tensor]
    said: list[tuple[str, float]]
    loss: float

    def differs(self, other: _Seen) -> str:
        """Say in what another one differs; empty where it does not."""
        if self.said != other.said:
            return "captions or log-probabilities"
        if self.loss != other.loss:
            return "loss"
        moved = different(self.tensors, other.tensors)
        return f"tensors ({some(moved)})" if moved else ""


def _left(
    settings: CellSettings,
    silent: list[Changed],
    observe: Callable[[CellSettings], _Seen],
    before: _Seen,
) -> list[Changed]:
    """Try all at once that fit together; return what has to be tried one by one."""
    together, tried = settings, []
    for changed in silent:
        try:
            together = with_change(together, changed)
            tried.append(changed)
        except ValidationError:
            continue
    try:
        alike = not before.differs(observe(together))
    except Exception:
        alike = False
    return [changed for changed in silent if not alike or changed not in tried]


def _alike(
    rule: str,
    fix: str,
    changed: Changed,
    settings: CellSettings,
    observe: Callable[[CellSettings], _Seen],
    before: _Seen,
) -> None:
    try:
        after = observe(with_change(settings, changed))
    except InputError as error:
        if changed.kind == "path":  # it was read
            raise Broken(rule, str(error), fix) from error
        return  # refused: nobody gets a wrong number
    except Exception as error:
        raise Broken(rule, f"{type(error).__name__}: {error}", fix) from error
    got = before.differs(after)
    expect(not got, rule, f"other {got}", fix)


def changed_settings(settings: CellSettings) -> Iterator[Changed]:
    """Yield every setting that can have another value by itself, with such a value."""
    for path, kind, annotation, value in _leaves(settings):
        for other in _others(kind, annotation, value):
            changed = Changed(path, kind, other)
            try:
                with_change(settings, changed)
            except (ValidationError, InputError):
                continue
            yield changed
            break


def _leaves(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Kind, Any, Any]]:
    fields = type(settings).model_fields
    for name, kind, value in items_of(settings):
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        elif name in fields:
            yield f"{prefix}{name}", kind, fields[name].annotation, value


def _others(kind: Kind, annotation: Any, value: Any) -> Iterator[Any]:
    """Yield other values of a setting, by its type; some may be outside of its limits."""
    if kind == "path":
        yield _NO_FILE
        return
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value - 1, value * 2, value / 2, value + 0.25)
    for kind_of_value in plain_types(annotation):
        if typing.get_origin(kind_of_value) is Literal:
            yield from (one for one in typing.get_args(kind_of_value) if one != value)
        elif kind_of_value is str:
            yield f"{value or 'other'} too"
        elif value is None and kind_of_value in (int, float):
            yield kind_of_value(4)
        elif typing.get_origin(kind_of_value) is tuple:
            inner = typing.get_args(kind_of_value)[0]
            yield from ((one,) for one in typing.get_args(inner))


def with_change(settings: CellSettings, changed: Changed) -> CellSettings:
    """Return the settings with one of them changed.

    Raises:
        ValidationError: The value does not fit.
    """
    nested = merge(settings.model_dump(mode="python"), nest(changed.path, changed.value))
    return CellSettings.model_validate(nested)


def key_of(settings: CellSettings) -> str:
    """Return the key of a cell; the name of a file stands for what is in it."""
    return CellIdentity(settings, dict(path_settings(settings))).cell_key


def _prefix_of(settings: CellSettings) -> str:
    return CellIdentity(settings, dict(path_settings(settings))).prefix_key


def _named(path: str, names: tuple[str, ...]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in names)
