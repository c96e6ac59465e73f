"""Caption text: normalisation, and the Penn Treebank tokenisation that the field scores on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from sca_bench.errors import NotComputed
from sca_bench.formats.texts import nfc
from sca_bench.lifetime.stops import run_child
from sca_bench.metrics.coco_caption.java import Java, last_words, scorer_folder

TOKENIZER = "PTB (stanford-corenlp-3.4.1), lower case, punctuation removed"

# Every Unicode space, line separator and control character, and lone surrogates (legal in JSON,
# not in UTF-8). Java and the tokenizer end a line at seven of them; one left inside a caption
# would hand each later caption its predecessor's tokens.
_NOT_TEXT = re.compile("[\\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    """Return the text with a space for each lone surrogate, which UTF-8 cannot write."""
    return _SURROGATE.sub(" ", text)


def normalise(caption: str) -> str:
    """Return the caption with every space-like or control character as one plain space each."""
    return _NOT_TEXT.sub(" ", caption)


def canonical(caption: str) -> str:
    """Return the caption for exact comparison: NFC, case folded, runs of space collapsed, stripped.

    What the field's own scorers compute is not compared so: they get captions as they are written.
    """
    return nfc(" ".join(normalise(nfc(caption)).casefold().split()))  # folding may take it apart


def ptb_tokenize(java: Java, captions: Sequence[str], timeout_s: float = 600.0) -> list[str]:
    """Tokenise captions as pycocoevalcap's `PTBTokenizer` does, tokens joined by single spaces.

    Its jar reads from its standard input: it takes a file's name apart at blanks.

    Args:
        java: The Java to run the jar with.
        captions: Any strings, empty ones included.
        timeout_s: Seconds after which the tokenizer is given up.

    Returns:
        One string per caption, in order; empty where nothing but punctuation was there.

    Raises:
        NotComputed: The jar is not there, fails, or returns another number of lines than it got.
    """
    if not captions:
        return []
    jar = scorer_folder() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    if not jar.is_file():
        raise NotComputed(f"the tokenizer's jar is missing: {jar}")
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    text = "".join(normalise(caption) + "\n" for caption in captions)
    command = java.command("-cp", jar.name, "edu.stanford.nlp.process.PTBTokenizer")
    command += ["-preserveLines", "-lowerCase"]
    try:
        done = run_child(
            command,
            input=text.encode(),
            cwd=jar.parent,
            env=java.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
        )
    except OSError as error:
        raise NotComputed(f"{java.executable} does not start: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise NotComputed(f"the PTB tokenizer took longer than {timeout_s:g} s") from error
    if done.returncode != 0:
        reason = last_words(done.stderr.decode(errors="replace"))
        raise NotComputed(f"the PTB tokenizer failed (exit code {done.returncode}): {reason}")
    lines = done.stdout.decode().split("\n")
    if lines[-1] != "" or len(lines) - 1 != len(captions):
        raise NotComputed(
            f"the PTB tokenizer returned {len(lines) - 1} lines for {len(captions)} captions"
        )
    dropped = frozenset(PUNCTUATIONS)
    return [
        " ".join(word for word in line.rstrip().split(" ") if word not in dropped)
        for line in lines[:-1]
    ]


def ptb_tokenize_groups(
    java: Java, groups: Sequence[Sequence[str]], timeout_s: float = 600.0
) -> list[list[str]]:
    """Tokenise groups of captions (the references of each region) in one call.

    Returns:
        Tokenised captions in the same grouping.

    Raises:
        NotComputed: See `ptb_tokenize`.
    """
    flat = iter(ptb_tokenize(java, [text for group in groups for text in group], timeout_s))
    return [[next(flat) for _ in group] for group in groups]
