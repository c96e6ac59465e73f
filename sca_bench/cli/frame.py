"""What all parsers of the command line share: one-line faults with a suggestion, and examples.

A command with actions (`weights import`, `cache ls`) has a parser for each action, whose help shows
what that action takes. Flags may stand before the action as well: `cache --dir D ls`.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias, cast

from sca_bench.errors import InputError, near_name
from sca_bench.output import hide_secrets, one_line

REPORTS = "reports"
"""Folder of the reports, where nobody names another."""
CALL = "python -m sca_bench"
"""How the examples in help texts, and the commands that are printed, begin."""

RUN_HELP = "SUITE/CELL[/SEED] as `list runs` prints it, a cell's name or id, or the folder of a run"

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""Where `add_parser` adds its command."""

_CHOICE = re.compile(r"argument (?P<what>\S+): invalid choice: '(?P<word>.*)' \(choose from .*")


class Parser(argparse.ArgumentParser):
    """A parser that answers a fault with one line, which names what is near."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **more: Any) -> None:
        """Make it.

        Args:
            *args: `argparse`'s own.
            examples: Commands without `python -m sca_bench`, shown below the help; what follows
                two blanks and a `#` says what one does.
            **more: `argparse`'s own.
        """
        if examples:
            lines = [f"  {CALL} {example}" for example in examples]
            shown = "examples:\n" + "\n".join(lines)
            more["epilog"] = "\n\n".join(filter(None, (shown, more.get("epilog"))))
        more.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **more)

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit code 2."""
        if match := _CHOICE.fullmatch(" ".join(message.split())):
            message = self._wrong_choice(match["what"], match["word"])
        self.exit(2, f"{self.prog}: {one_line(hide_secrets(message))}; see {self.prog} --help\n")

    def _wrong_choice(self, what: str, word: str) -> str:
        asked = (
            action.choices
            for action in self._actions
            if action.choices and what in ("/".join(action.option_strings), action.metavar)
        )
        names = {name for choices in asked for name in cast(Iterable[str], choices)}
        near = near_name(word, names)
        hint = f"did you mean {near}?" if near else f"known: {', '.join(sorted(names))}"
        return f"{what}: {word!r} is unknown; {hint}"

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Read a command line.

        Raises:
            InputError: It has a word or flag that the command does not take.
        """
        options, left = self.parse_known_args(list(words))
        path = [options.command, *filter(None, [getattr(options, "action", None)])]
        parser, siblings = self._of(path)
        if siblings:  # a flag before the action may be one of another action
            idle = _given(self.actions_by_name()[path[0]], options)
            left = [*left, *(flag for flag in idle if flag not in _flags(parser))]
        left = _filled_in(parser, options, left)
        if left:
            raise _unknown(left[0], path, parser, siblings)
        return options

    def _of(self, path: Sequence[str]) -> tuple[Parser, dict[str, Parser]]:
        """Return the parser of a command, or of an action of it, and those of all its actions."""
        parser, siblings = self, {}
        for name in path:
            siblings = parser.actions_by_name() if parser is not self else {}
            parser = parser.actions_by_name().get(name, parser)
        return parser, siblings

    def actions_by_name(self) -> dict[str, Parser]:
        """Return the parsers below this one: of commands, or of a command's actions."""
        found = (a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction))
        return {name: parser for choices in found for name, parser in choices.items()}


def _unknown(
    word: str, path: Sequence[str], parser: Parser, siblings: Mapping[str, Parser]
) -> InputError:
    """Return what is to be said of a word that no argument has taken.

    Args:
        word: The word, or a flag with or without its value.
        path: The command, and its action where it has some.
        parser: That of the two together.
        siblings: Those of all its actions.
    """
    where, flag = " ".join(path), word.partition("=")[0]
    is_flag = flag.startswith("-")
    found = _taking(siblings, flag if is_flag else None)
    if found or not is_flag:
        what, actions = found or ("more words", [])
        key = flag if is_flag else word
        return InputError(path[0], key, f"{path[-1]} takes no {what}", _only(actions))
    near = near_name(flag, _flags(parser))
    fix = f"did you mean {near}?" if near else f"see {CALL} {where} --help"
    return InputError(where, flag, "no such flag", fix)


def _filled_in(parser: Parser, options: argparse.Namespace, left: list[str]) -> list[str]:
    """Give words behind flags to the words that may be left out, which argparse takes for left out.

    Returns:
        The words that nothing takes.
    """
    places = [a for a in parser._actions if not a.option_strings and a.nargs in ("?", "*")]
    if not left or not places or any(word.startswith("-") for word in left):
        return left
    place = places[-1]
    if getattr(options, place.dest) not in (place.default, []):
        return left
    if place.nargs == "*":
        setattr(options, place.dest, left)
        return []
    setattr(options, place.dest, left[0])
    return left[1:]


def _visible(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.help != argparse.SUPPRESS]


def _flags(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in _visible(parser) for name in action.option_strings}


def _given(command: Parser, options: argparse.Namespace) -> list[str]:
    """Return the flags of a command's actions that have another value than their default."""
    hidden = [a for a in command._actions if a.help == argparse.SUPPRESS and a.option_strings]
    return [a.option_strings[0] for a in hidden if getattr(options, a.dest) != a.default]


def _taking(parsers: Mapping[str, Parser], flag: str | None) -> tuple[str, list[str]] | None:
    """Return what is taken (a flag, or else a word) and the actions that take it."""
    found: dict[str, list[str]] = {}
    for name, parser in parsers.items():
        for action in _visible(parser):
            if flag in action.option_strings if flag else not action.option_strings:
                found.setdefault(flag or str(action.metavar or action.dest), []).append(name)
    return next(iter(found.items()), None)


def _only(actions: Sequence[str]) -> str:
    if not actions:
        return ""
    return f"only {' and '.join(actions)} {'does' if len(actions) == 1 else 'do'}"


@dataclass
class Actions:
    """The actions of a command, each with a parser of its own.

    Attributes:
        parser: The command's parser, which takes the actions' flags before the action, too.
    """

    parser: Parser
    _below: Any = field(init=False)

    def __post_init__(self) -> None:
        """Let the command ask for one of its actions."""
        self._below = self.parser.add_subparsers(
            dest="action", required=True, metavar="ACTION", parser_class=Parser
        )

    def add(self, name: str, about: str, examples: Sequence[str]) -> Action:
        """Add an action; its help says what it does and shows examples."""
        own = self._below.add_parser(name, help=about, description=about, examples=examples)
        return Action(self.parser, own)


@dataclass(frozen=True)
class Action:
    """One action's parser, and the command's, which takes its flags before the action."""

    command: Parser
    own: Parser

    def add(self, *names: str, **more: Any) -> None:
        """Add an argument; one that another action has, too, is described alike or anew."""
        if not names[0].startswith("-"):
            self.own.add_argument(*names, **more)
            return
        known = {name for a in self.command._actions for name in a.option_strings}
        if names[0] not in known:
            before = {**more, "help": argparse.SUPPRESS}
            self.command.add_argument(*names, **before)
        self.own.add_argument(*names, **{**more, "default": argparse.SUPPRESS})


def add_runs_dir(to: Parser | Action) -> None:
    """Add `--runs-dir` to a parser."""
    add = to.add if isinstance(to, Action) else to.add_argument
    add("--runs-dir", default="runs", metavar="DIR", help="runs folder (runs)")


def add_json(to: Parser, about: str = "print it as JSON") -> None:
    """Add `--json` to a parser.

    Args:
        to: The command's.
        about: What the help says.
    """
    to.add_argument("--json", action="store_true", help=about)


def add_profile_and_set(to: Parser) -> None:
    """Add the flags that change what a suite or sweep says."""
    to.add_argument(
        "--profile",
        metavar="NAME",
        help="tiny, small, paper, ... (the file's own; `list profiles`)",
    )
    to.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        dest="overrides",
        help="a setting that wins over all others, such as train.steps=20, or a file or folder of"
        " the suite, such as paths.sam=SAM (repeatable; `list settings`)",
    )


def quiet_models() -> None:
    """Keep advice of transformers out of what a command prints; call it before that is imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
