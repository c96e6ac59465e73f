"""What texts, ids and file names in somebody's files mean: one reading for all rooms. No torch.

* Ids: 7, "7" and 7.0 are the same id, since one file of a data set may write it as a number and
  another as a text.
* Comparing: two spellings of one text in Unicode (é as one character, or as e with an accent) are
  the same text. What is scored by the field's own scorers reaches them as it is written.
* File names are relative, with `/` between folders; what other systems write is explained.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PureWindowsPath
from urllib.parse import urlsplit

_EXACT_BELOW = 2.0**53
"""Above, a float no longer tells one whole number from the next."""
_MOST_BITS = 4096
"""A whole number of more is no id; Python writes none of more than about 14,000."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|file:")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def id_text(value: object) -> str | None:
    """Return an id as a text; None where it is no id: a truth value, a fraction, an empty text.

    Whole numbers of more than 1,200 digits are none, either.
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_BELOW:
        return str(int(value))
    is_id = isinstance(value, int) and value.bit_length() <= _MOST_BITS
    return str(value) if is_id else None


def nfc(text: str) -> str:
    """Return a text in the normal form that texts are compared in (Unicode's NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


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
