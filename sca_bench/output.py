"""What commands print: streams that never stop the work, and text that is shown as it was written.

A reader may close the pipe, a disk may be full, an encoding may lack a sign, the shell may have
closed a stream before the command began. None of this is a fault of the work, and libraries answer
it in their own ways (rich ends the process with exit code 1). So it is met at the lowest place,
where bytes are handed to the system.

Texts may come from anybody: captions, names in a runs folder that was sent, messages of libraries.
A terminal takes some characters of a text as commands, and others move its letters about or are not
seen at all. So they are shown as their numbers (`visible`, `one_line`), also by the streams.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console
    from rich.table import Table

UNREAD = 128 + signal.SIGPIPE
"""Exit code of a command that ended because nobody read it any more, as shells count it."""


_NARROWEST, _USUAL_WIDTH = 20, 80
"""Columns of a terminal below which no table fits, and those that are assumed instead."""


def print_json(value: object) -> None:
    """Print a value as JSON, in signs that every encoding has."""
    import json

    print(json.dumps(value, indent=1))


# --- characters that no one sees ----------------------------------------------------------------

_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls; a terminal's commands begin with one
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # change the direction of writing
    "\u2028\u2029"  # end a line or paragraph
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u3164\ufeff\uffa0"  # no width
    "\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ud800-\udfff\ufffe\uffff"  # no characters: halves of one, and what XML does not allow
)
_JOINERS = "\u200c\u200d"
"""They shape the letters of several scripts, and hold emoji together."""
_SHOWN_BUT_JOINERS = re.compile(f"[{_UNSEEN}]")
_SHOWN = re.compile(f"[{_UNSEEN}{_JOINERS}]")
_BREAKS = str.maketrans({"\n": "\\n", "\t": "\\t", "\r": "\\r"})


def visible(text: str, *, joiners: bool = False) -> str:
    r"""Return text in which every character is seen; lines and tabs stay.

    Args:
        text: Any text.
        joiners: Whether the two invisible joiners stay, for pages that set such scripts.

    Returns:
        Controls, marks of direction and what has no width are written as their numbers, such as
        `\u001b` (in JSON, that is the same text).
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return (_SHOWN_BUT_JOINERS if joiners else _SHOWN).sub(_number, text)


def one_line(text: str) -> str:
    r"""Return text on one line in which every character is seen; a line's end becomes `\n`."""
    return visible(text.translate(_BREAKS))


def _number(sign: re.Match[str]) -> str:
    number = ord(sign[0])
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def say(line: object, *, error: bool = False, flush: bool = False) -> None:
    """Print one line, whatever the text holds.

    Args:
        line: What to print.
        error: Whether it goes to standard error.
        flush: Whether it is written at once.
    """
    print(one_line(str(line)), file=sys.stderr if error else sys.stdout, flush=flush)


# --- what lets somebody in ----------------------------------------------------------------------

_HIDDEN = "***"
# Both take time in proportion to a text's length, whatever a file of others holds.
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]{,40}://[^\s'\"<>`]+")
_OPTION = re.compile(r"([?&;#])([^?=&;#\s]*)=[^&;#\s,]*")
_LETS_IN = re.compile("pass|pwd|token|secret|key|auth|cred|sig|user", re.I)
_PLAIN = 8
"""Characters of a secret that is looked for inside of words, too."""


def without_secrets(uri: str) -> str:
    """Return an address without what may let somebody in: user, password and options.

    What is no address, such as a file's name, stays as it is. Where a password holds signs that an
    address gives another meaning (`/`, `@`), more is left out rather than less.

    Args:
        uri: Of a server or data base, such as `https://user:word@host/path?token=x`.
    """
    kind, mark, rest = uri.partition("://")
    if not mark:
        user, at, host = uri.rpartition("@")
        return f"{_HIDDEN}@{host}" if at and ":" in user.rpartition("/")[2] else uri
    fragment = ""
    if not rest.startswith("/"):  # it has a host, and is not a file only
        user, at, host = rest.rpartition("@")
        host, fragment, _ = host.partition("#")
        rest = f"{_HIDDEN}@{host}" if at else host
    path, options, _ = rest.partition("?")
    ending = next((f"{sign}{_HIDDEN}" for sign in (options, fragment) if sign), "")
    return f"{kind}://{path}{ending}"


def hide_secrets(text: str, *uris: str, secrets: Collection[str] = ()) -> str:
    """Return text in which no address shows what may let somebody in.

    Args:
        text: A command line, a message of a library.
        *uris: Addresses that it may hold, or a part of them, in whichever spelling.
        secrets: Passwords and the like that it may hold.
    """
    for uri in uris:
        text = text.replace(uri, without_secrets(uri))
    sought = {spelt for uri in uris for secret in _secrets(uri) for spelt in _spellings(secret)}
    sought |= {spelt for secret in secrets for spelt in _spellings(secret)}
    for secret in sorted(sought - {"", _HIDDEN}, key=len, reverse=True):
        word = re.escape(secret)
        text = re.sub(word if len(secret) >= _PLAIN else rf"(?<!\w){word}(?!\w)", _HIDDEN, text)
    return _ADDRESS.sub(_hide_in_address, text)


def _hide_in_address(found: re.Match[str]) -> str:
    kind, _, rest = found[0].partition("://")
    if not rest.startswith("/") and "@" in rest:
        rest = f"{_HIDDEN}@{rest.rpartition('@')[2]}"
    return _OPTION.sub(_hide_option, f"{kind}://{rest}")


def _hide_option(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={_HIDDEN}" if _LETS_IN.search(found[2]) else found[0]


def _secrets(uri: str) -> set[str]:
    """Return what an address holds to let somebody in."""
    from base64 import b64encode
    from urllib.parse import unquote

    _, mark, rest = uri.partition("://")
    found: set[str] = set()
    if not rest.startswith("/"):
        inside, at, _ = (rest if mark else uri).rpartition("@")
        user, _, password = inside.partition(":")
        if at:
            both = f"{unquote(user)}:{unquote(password)}"
            found |= {inside, user, password, b64encode(both.encode()).decode()}
    for option in re.split("[&;#]", rest.partition("?")[2]):
        name, is_set, value = option.partition("=")
        found.add(value if is_set else name)
    return found


def _spellings(secret: str) -> set[str]:
    from urllib.parse import quote, unquote

    plain = unquote(secret)
    return {secret, plain, quote(plain), quote(plain, safe="")}


# --- streams ------------------------------------------------------------------------------------


class _Output(io.FileIO):
    """A standard stream; what cannot be written any more is dropped.

    Attributes:
        ends: Whether the command has nothing to do but to print, and ends with its reader.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.ends = self._lost = False

    def write(self, data: ReadableBuffer) -> int:
        """Write, or drop; a disk that is full is said once."""
        if not self._lost:
            try:
                return super().write(data)
            except OSError as error:
                self._lost = True
                self._lose(error)
        return memoryview(data).nbytes

    def _lose(self, error: OSError) -> None:
        broken = isinstance(error, BrokenPipeError)
        if self.ends:
            if broken:
                raise SystemExit(UNREAD)
            raise OSError(error.errno, error.strerror, "stdout")
        if self.fileno() == 1 and not broken:
            print(f"stdout: {error.strerror}; the work goes on unseen", file=sys.stderr)


class VisibleStream(io.TextIOWrapper):
    """A text stream in which every character is seen.

    A return that begins what is written stays: bars of progress are drawn that way.
    """

    def write(self, text: str) -> int:
        """Write text; return how many of its characters were taken, which is all."""
        head = text[:1] if text[:1] == "\r" and text[:2] != "\r\n" else ""
        super().write(head + visible(text[len(head) :]))
        return len(text)

    def write_styled(self, text: str) -> int:
        """Write what holds a terminal's commands on purpose."""
        return super().write(text)


class _Styled:
    """A stream as rich needs it, which has made its texts visible before it adds colours."""

    def __init__(self, stream: VisibleStream) -> None:
        self.write = stream.write_styled
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Stream(VisibleStream):
    """Standard output or error over an `_Output`."""

    def __init__(self, like: io.TextIOWrapper, descriptor: int) -> None:
        self.output = _Output(descriptor)
        buffered: Any = self.output if like.write_through else io.BufferedWriter(self.output)
        super().__init__(
            buffered,
            encoding=like.encoding,
            errors="backslashreplace",
            line_buffering=like.line_buffering,
            write_through=like.write_through,
        )


def guard_streams() -> None:
    """Let nothing about standard output and error stop this process.

    Streams that were closed from the start lead nowhere. Signs that an encoding lacks are written
    with a backslash and their number. Streams that somebody put in their place (a test, a notebook)
    are left alone.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would be taken for this stream
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # so for children, too
    sys.stdout = _guarded(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _guarded(sys.stderr, sys.__stderr__, 2)


def _guarded(stream: Any, original: Any, descriptor: int) -> Any:
    if stream is None:
        stream = open(descriptor, "w", closefd=False)  # noqa: SIM115 (lives as long as the process)
    elif stream is not original or not isinstance(stream, io.TextIOWrapper):
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return _Stream(stream, descriptor)


def end_with_reader() -> None:
    """Let this process end, with `UNREAD`, as soon as nobody reads its standard output."""
    if isinstance(sys.stdout, _Stream):
        sys.stdout.output.ends = True


def takes_any_sign(stream: TextIO) -> bool:
    """Say whether a stream's encoding has all of Unicode."""
    return (stream.encoding or "utf-8").lower().replace("_", "-") in ("utf-8", "utf8")


# --- numbers and times -----------------------------------------------------------------------


def num_text(count: int, noun: str) -> str:
    """Return a count and its noun: `1 run`, `2 runs`, `1,000 runs`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def in_words(seconds: float) -> str:
    """Return `45 s`, `2 min 25 s` or `3 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size_text(num_bytes: int) -> str:
    """Return `12 KiB`, `3.4 MiB` or `2.50 GiB`."""
    if num_bytes < 2**20:
        return f"{-(-num_bytes // 2**10)} KiB"
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes < 2**30 else f"{num_bytes / 2**30:.2f} GiB"


# --- rich ---------------------------------------------------------------------------------------


def text_console(*, quiet: bool = False) -> Console:
    """Return a console that shows every text as it is written, and each as one line.

    Names of cells, suites and files may hold what rich takes for markup or an emoji: `[bold]`,
    `[/]`, `:smile:`, and characters that nobody sees.

    Args:
        quiet: Whether nothing is shown: of a command whose output is JSON.
    """
    from rich.console import Console
    from rich.text import Text

    class TextConsole(Console):
        @property
        def file(self) -> IO[str]:
            stream: Any = vars(Console)["file"].__get__(self)
            return cast(IO[str], _Styled(stream)) if isinstance(stream, VisibleStream) else stream

        @file.setter
        def file(self, stream: IO[str]) -> None:
            vars(Console)["file"].__set__(self, stream)

        def print(self, *objects: Any, **more: Any) -> None:
            super().print(*map(_shown, objects), **more)

    def _shown(what: Any) -> Any:
        if isinstance(what, str):
            return one_line(what)
        if isinstance(what, Text) and visible(what.plain) != what.plain:
            return Text(visible(what.plain))
        return what

    console = TextConsole(markup=False, emoji=False, highlight=False, quiet=quiet)
    if console.width < _NARROWEST:  # a wrong COLUMNS, in which a table would vanish
        console.width = _USUAL_WIDTH
    return console


@contextlib.contextmanager
def redrawn() -> Iterator[Callable[[Sequence[str]], None]]:
    """Give a function that shows lines in place of those that it showed before, on a terminal."""
    from rich.live import Live
    from rich.text import Text

    streams: dict[str, Any] = {"redirect_stdout": False, "redirect_stderr": False}
    with Live(console=text_console(), auto_refresh=False, **streams) as live:

        def draw(lines: Sequence[str]) -> None:
            live.update(Text("\n".join(map(one_line, lines)), overflow="fold"), refresh=True)

        yield draw


def wrapped(text: str, console: Console, width: int) -> list[str]:
    """Return a text in lines of at most so many columns of a console, broken between words."""
    from rich.text import Text

    return [line.plain.rstrip() for line in Text(text).wrap(console, width)]


def text_table(*columns: str, right: Collection[str] = (), title: str | None = None) -> Table:
    """Return a table without lines; what does not fit is folded, never cut.

    Args:
        columns: Their heads.
        right: Those that are set to the right.
        title: Stands above it.

    Returns:
        A table whose every field is one line, whatever its text holds.
    """
    from rich.table import Table

    class TextTable(Table):
        def add_row(self, *fields: Any, **more: Any) -> None:
            super().add_row(*(one_line(f) if isinstance(f, str) else f for f in fields), **more)

    table = TextTable(box=None, title=title and one_line(title), title_justify="left")
    for column in columns:
        justify: Any = "right" if column in right else "left"
        table.add_column(one_line(column), justify=justify, overflow="fold")
    return table


# --- text of others inside Markdown ---------------------------------------------------------------

_BLOCK_BEGINS = re.compile(r"(?=[-+#](\s|$)|#{2,6}(\s|$)|--|- -|==|=$|>)|^\d{1,9}(?=[.)](\s|$))")


def markdown_text(text: str) -> str:
    """Return text on one line in which no sign is Markdown's, wherever it stands."""
    text = visible(" ".join(text.split()), joiners=True)
    if begins := _BLOCK_BEGINS.match(text):  # a heading, list, rule or quotation
        number, rest = text[: begins.end()], text[begins.end() :]
        return f"{number}\\{rest[0]}{_within(rest[1:])}"
    return _within(text)


def _within(text: str) -> str:
    text = re.sub(r"[\\|*`\[\]$~]", r"\\\g<0>", text)
    # Underscores inside words and a comparison's < mean nothing to Markdown; leave them readable.
    text = re.sub(r"(?<!\w)_+|_+(?!\w)", lambda run: "\\_" * len(run[0]), text)
    return re.sub(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)", r"\\\g<0>", text)


def markdown_code(text: str) -> str:
    """Return text as code within a line, fenced by more backticks than it holds together."""
    text = visible(" ".join(text.split()), joiners=True)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    blank = " " if "`" in (text[:1], text[-1:]) else ""
    return f"{fence}{blank}{text}{blank}{fence}"
