"""Any text as LaTeX that every engine and font encoding sets: the result is plain ASCII."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "_%&$#"},
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "×": r"$\times$",  # noqa: RUF001
    "±": r"$\pm$",
    "−": "$-$",  # noqa: RUF001
    "–": "--",  # noqa: RUF001
    "—": "---",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "·": r"$\cdot$",
    "°": r"$^{\circ}$",
    "²": "$^{2}$",
    "³": "$^{3}$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",  # noqa: RUF001
    "β": r"$\beta$",
    "γ": r"$\gamma$",  # noqa: RUF001
    "σ": r"$\sigma$",  # noqa: RUF001
    "λ": r"$\lambda$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "…": r"\dots{}",
    "‘": "`",  # noqa: RUF001
    "’": "'",  # noqa: RUF001
    "“": "``",
    "”": "''",
    "«": r"$\ll$",
    "»": r"$\gg$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "å": r"\aa{}",
    "Å": r"\AA{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",  # noqa: RUF001
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def escape(text: str) -> str:
    """Return text on one line in which no sign is LaTeX's.

    A character without an equivalent becomes its code point in brackets, such as `[U+4E2D]`.
    """
    # A ligature would set two hyphens as a dash, and ?` as a turned question mark.
    apart = re.sub(r"-(?=-)|,(?=,)|[?!](?=`)|'(?=')|`(?=`)", r"\g<0>\0", " ".join(text.split()))
    return "".join(map(_sign, apart))


def _sign(sign: str) -> str:
    if sign == "\0":
        return "{}"
    if sign in _SIGNS:
        return _SIGNS[sign]
    if sign.isascii():
        return sign if sign.isprintable() else f"[U+{ord(sign):04X}]"
    apart = unicodedata.normalize("NFD", sign)
    letter, mark = apart[0], apart[1:]
    if mark in _ACCENTS and letter.isascii() and letter.isalpha():
        dotless = f"\\{letter}" if letter in "ij" and mark != "\u0327" else letter
        return f"\\{_ACCENTS[mark]}{{{dotless}}}"
    if unicodedata.category(sign) in ("Zs", "Cf", "Zl", "Zp"):
        return "~" if sign == "\u00a0" else " "
    return f"[U+{ord(sign):04X}]"
