"""Why a mirror could not be written, in one line for people."""

from __future__ import annotations

import os
import re
import sqlite3
import ssl
from collections.abc import Iterator
from http import HTTPStatus

from sca_bench.errors import InputError
from sca_bench.output import hide_secrets, one_line

_LONGEST = 200
_SECRET_VARIABLES = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "DATABRICKS_TOKEN",
    "DATABRICKS_PASSWORD",
    "DATABRICKS_CLIENT_SECRET",
)
_PASSING_CODES = (408, 425, 429, 500, 502, 503, 504)


class MirrorFault(Exception):
    """The mirror of one suite cannot be written, for a reason that is known."""


def reason_of(error: BaseException, uri: str) -> str:
    """Return why the store of a mirror could not be written.

    Args:
        error: What its client raised.
        uri: Address of the store; nothing of it that lets somebody in is in the reason.
    """
    secrets = [os.environ.get(name, "") for name in _SECRET_VARIABLES]
    text = one_line(" ".join(hide_secrets(_reason(error), uri, secrets=secrets).split()))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def is_passing(error: BaseException) -> bool:
    """Say whether it may be right a moment later: a server that starts anew, a busy data base."""
    if isinstance(error, MirrorFault | InputError):
        return False
    chain = list(_chain(error))
    code = _status(chain)
    if code is not None:
        return code in _PASSING_CODES
    names = {kind.__name__ for cause in chain for kind in type(cause).__mro__}
    if names & {"SSLError", "TooManyRedirects", "InvalidURL", "LocationParseError"}:
        return False
    if any(isinstance(cause, sqlite3.Error) for cause in chain):
        return any("locked" in str(cause) for cause in chain)
    return bool(names & {"ConnectionError", "Timeout", "TimeoutError", "HTTPError"})


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it, the outermost first."""
    seen: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        cause = todo.pop(0)
        if not isinstance(cause, BaseException) or any(cause is other for other in seen):
            continue
        seen.append(cause)
        yield cause
        inner = (getattr(cause, name, None) for name in ("orig", "reason", "__cause__"))
        todo += [*inner, *cause.args, getattr(cause, "message", None), cause.__context__]


def _status(chain: list[BaseException]) -> int | None:
    """Return the status that a server answered with, if it was not the right one."""
    for cause in chain:
        text = str(cause)
        found = re.search(r"error code (\d{3}) !=|too many (\d{3}) error responses", text)
        if found:
            return int(found[1] or found[2])
        response = getattr(cause, "response", None)
        if (code := getattr(response, "status_code", None)) is not None:
            return int(code)
    return None


def _reason(error: BaseException) -> str:
    chain = list(_chain(error))
    names = {kind.__name__ for cause in chain for kind in type(cause).__mro__}
    if isinstance(error, MirrorFault | InputError):
        return str(error)
    if (code := _status(chain)) is not None:
        return f"the server answers {code}{_phrase(code)}"
    if missing := next((c for c in chain if isinstance(c, ModuleNotFoundError)), None):
        return f"the Python package {missing.name} is not installed"
    if "TooManyRedirects" in names:
        return "the server redirects without end"
    if "NameResolutionError" in names or "gaierror" in names:
        return "no such host is known"
    if "SSLError" in names:
        fault = next((c for c in reversed(chain) if isinstance(c, ssl.SSLError)), error)
        what = getattr(fault, "verify_message", None) or getattr(fault, "reason", None)
        text = str(what).replace("_", " ").lower() if isinstance(what, str) else "see its log"
        return f"no TLS connection ({text})"
    if isinstance(error, TimeoutError) and error.args and not error.errno:
        return str(error)
    refused = next((c for c in chain if isinstance(c, ConnectionError)), None)
    if refused is not None and refused.strerror:
        return refused.strerror.lower()
    if names & {"Timeout", "TimeoutError"}:
        return "the server does not answer in time"
    if data_base := next((c for c in chain if isinstance(c, sqlite3.Error)), None):
        return str(data_base)
    for cause in reversed(chain):
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            where = f"{cause.filename}: " if cause.filename else ""
            return f"{where}{cause.strerror}"
    if "ConnectionError" in names or "ProtocolError" in names:
        return "the server ends the connection without an answer"
    if "valid JSON format" in str(error):
        return "the answer is none of MLflow (no JSON)"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    kind = type(error).__name__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return f"{kind}, without a word"
    return lines[0] if kind.endswith("Exception") else f"{kind}: {lines[0]}"


def _phrase(code: int) -> str:
    try:
        phrase = f" ({HTTPStatus(code).phrase})"
    except ValueError:
        return ""
    if code in (401, 403):
        phrase += "; give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a token"
    return phrase
