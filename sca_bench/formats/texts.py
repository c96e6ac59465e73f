"""What texts, ids and file names in somebody's files mean: one reading for all rooms. No torch.

* Ids: 7, "7" and 7.0 are the same id, since one file of a data set may write it as a number and
  another as a text.
* Texts: what JSON and pickles can hold and Unicode cannot (half of a surrogate pair) is found, so
  that a reader can refuse it before anything is trained on it.
* Comparing: two spellings of one text in Unicode (é as one character, or as e with an accent) are
  the same text. What is scored by the field's own scorers reaches them as it is written.
* File names are relative, with `/` between folders; what other systems write is explained.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PureWindowsPath
from urllib.parse import urlsplit

_EXACT_BELOW = 2.0**53
"""Above, a float no longer tells one whole number from the next."""
_LONE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
_OWN_IDS = ("region_id", "id", "ref_id", "sent_id", "image_id")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|file:")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")

Part = str | int


def id_text(value: object) -> str | None:
    """Return an id as a text; None where it is no id: a truth value, a fraction, an empty text."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_BELOW:
        return str(int(value))
    return str(value) if isinstance(value, int) else None


def nfc(text: str) -> str:
    """Return a text in the normal form that texts are compared in (Unicode's NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@dataclass(frozen=True, slots=True)
class NoText:
    """Half of a surrogate pair in plain values.

    Attributes:
        at: The way to the text (or to the mapping, where it is a key).
        owner: Id of the innermost record around it, such as `id 7`; empty where none has one.
        half: The character, escaped.
    """

    at: tuple[Part, ...]
    owner: str
    half: str

    @property
    def problem(self) -> str:
        """What is wrong, for an error line."""
        owner = f" ({self.owner})" if self.owner else ""
        return f"holds {self.half}, half of a character{owner}"


NO_TEXT_FIX = "write the whole character, or leave it out"


def find_no_text(values: object) -> NoText | None:
    """Return the first text of plain values (mappings, lists, scalars) that is not Unicode."""
    todo: list[tuple[object, tuple[Part, ...], str]] = [(values, (), "")]
    met: set[int] = set()  # a pickle's list may hold itself
    while todo:
        value, at, owner = todo.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) in met:
                continue
            met.add(id(value))
        if isinstance(value, str):
            if not value.isascii() and (found := _LONE.search(value)):
                return NoText(at, owner, ascii(found[0])[1:-1])
        elif isinstance(value, dict):
            own = next((key for key in _OWN_IDS if isinstance(value.get(key), str | int)), "")
            owner = f"{own} {value[own]!a}" if own else owner
            keys = [(key, at, owner) for key in value if isinstance(key, str)]
            inner = [(item, (*at, str(key)), owner) for key, item in value.items()]
            todo += reversed([*keys, *inner])
        elif isinstance(value, list | tuple):
            todo += reversed([(item, (*at, k), owner) for k, item in enumerate(value)])
    return None


def read_json_text(text: str) -> tuple[object, NoText | None]:
    """Return what JSON says, and where it holds a text that is not Unicode.

    Only escapes can write one, so a text without such escapes is not looked through.

    Raises:
        ValueError: It is not JSON (`json.JSONDecodeError`).
        RecursionError: It is nested too deeply.
    """
    content = json.loads(text)
    return content, find_no_text(content) if _ESCAPED.search(text) else None


def foreign_path(name: str) -> str:
    """Say why a name is no relative path of this system, with what to write; empty where it is."""
    if _URL.match(name):
        what, last = "a URL", urlsplit(name).path
    elif _DRIVE.match(name) or "\\" in name:
        what, last = "a path of Windows", PureWindowsPath(name).as_posix()
    elif name.startswith(("/", "~/")):
        what, last = "a path of one machine", name
    else:
        return ""
    parts = [part for part in last.split("/") if part and part != "~" and not part.endswith(":")]
    relative = "/".join(parts[-2:]) or "FOLDER/FILE"
    return f"is {what}; write it relative to its folder, with /, such as {relative!r}"
