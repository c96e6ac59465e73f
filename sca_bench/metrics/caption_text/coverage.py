"""Noun and verb coverage: which of the references' nouns and verbs a caption says.

The paper's numbers come from spaCy's en_core_web_lg. Exact coverage takes any English pipeline with
parts of speech, and the signature names it: the tagger moves the mean by about .001. Fuzzy coverage
takes en_core_web_lg with its own word vectors and nothing else: another table moves it by .17.

What is trusted: a pipeline that is named as a package is installed code, which Python imports like
any other. A folder is data: spaCy reads its configuration (JSON), MessagePack and arrays without
pickles, and builds components from factories that installed packages have registered; no code in
the folder is run.

Source:
    Huang et al., Segment and Caption Anything, CVPR 2024, tables 1 and following (Noun, Verb);
    Chan et al., IC3: Image Captioning by Committee Consensus, EMNLP 2023 (content recall).
"""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import NotComputed
from sca_bench.formats.texts import nfc
from sca_bench.metrics.coco_caption.ptb_tokenizer import encodable
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec, Requirement

SPACY_VARIABLE = "SCA_BENCH_SPACY"
PAPERS_PIPELINE = "en_core_web_lg"
REVISION = "2"
"""Raised whenever a change of this file moves a number."""

_EPSILON = 1e-8
_WIDTH = 300
_MIN_KEYS = 500_000
"""en_core_web_lg has 514,157 words with a row each, 684,830 in older releases."""
_KEPT_TEXTS = 400_000
_CLASSES = {"noun": frozenset({"NOUN", "PROPN"}), "verb": frozenset({"VERB"})}
_SAID = {"noun": "NOUN and PROPN", "verb": "VERB"}
_POS = ("attribute_ruler", "morphologizer")
_LEFT_OUT = ("ner", "lemmatizer")
"""They move no part of speech; the parser does, through the attribute ruler, and stays."""


def _spec(name: str, label: str, classes: str, how: str) -> MetricSpec:
    fuzzy = how != "exact"
    meaning = f"{label}: mean best similarity of word vectors" if fuzzy else f"{label}: share said"
    table = " with its own word vectors" if fuzzy else " (or the pipeline in SCA_BENCH_SPACY)"
    return MetricSpec(
        name,
        f"{meaning}, of the references' words ({classes}); 0-1; needs spaCy",
        "coverage",
        f"sca_bench coverage (spaCy pipeline, {classes}, {how})",
        package="",
        tokenizer="spaCy",
        compute=f"{__name__}:coverage",
        label=label,
        needs=f"spaCy and en_core_web_lg{table}",
        requires=(Requirement("spaCy", f"{__name__}:found_{'vectors' if fuzzy else 'tagger'}"),),
    )


_FUZZY = "token similarity"
SPECS = (
    _spec("noun_recall", "Noun recall", _SAID["noun"], "exact"),
    _spec("verb_recall", "Verb recall", _SAID["verb"], "exact"),
    _spec("noun_recall_fuzzy", "Noun recall, fuzzy", _SAID["noun"], _FUZZY),
    _spec("verb_recall_fuzzy", "Verb recall, fuzzy", _SAID["verb"], _FUZZY),
)

Words = dict[str, tuple[str, ...]]
"""`noun` and `verb` -> the distinct words of that class, in the order of the text."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A loaded spaCy pipeline.

    Attributes:
        nlp: The pipeline.
        name: Language and name as it says of itself, such as `en_core_web_lg`.
        version: Its version.
        spacy_version: spaCy's.
    """

    nlp: Any
    name: str
    version: str
    spacy_version: str


class Parser:
    """The nouns and verbs of texts, each text parsed once; the last ones used are kept."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._known: OrderedDict[str, Words] = OrderedDict()
        self._units: dict[str, NDArray[np.float32]] = {}

    def words_of(self, texts: Iterable[str]) -> dict[str, Words]:
        """Return the words of every distinct text.

        Raises:
            NotComputed: The pipeline gives no word a part of speech.
        """
        wanted = list(dict.fromkeys(texts))
        words = {text: self._known[text] for text in wanted if text in self._known}
        new = [text for text in wanted if text not in words]
        num_words = num_tagged = 0
        docs = self.pipeline.nlp.pipe((nfc(encodable(text)) for text in new), batch_size=256)
        for text, doc in zip(new, docs, strict=True):
            tagged = [(token.text, token.pos_) for token in doc]
            num_words += len(tagged)
            num_tagged += sum(bool(pos) for _, pos in tagged)
            words[text] = {
                kind: tuple(dict.fromkeys(word for word, pos in tagged if pos in classes))
                for kind, classes in _CLASSES.items()
            }
        if num_words and not num_tagged:
            fix = "name a pipeline with a tagger and an attribute ruler"
            raise NotComputed(
                f"{self.pipeline.name} gives no word a part of speech: {fix} in {SPACY_VARIABLE}"
            )
        for text in wanted:
            self._known[text] = words[text]
            self._known.move_to_end(text)
        while len(self._known) > _KEPT_TEXTS:
            self._known.popitem(last=False)
        return words

    def similarities(self, left: Sequence[str], right: Sequence[str]) -> NDArray[np.float32]:
        """Return spaCy's token similarity of all pairs of words, (len(left), len(right)).

        The cosine of their vectors; 1 for the same word, 0 where a word has no vector.
        """
        rows = np.stack([self._unit(word) for word in left])
        columns = np.stack([self._unit(word) for word in right])
        cosines: NDArray[np.float32] = rows @ columns.T
        index_of = {word: column for column, word in enumerate(right)}
        for row, word in enumerate(left):
            if word in index_of:
                cosines[row, index_of[word]] = 1.0
        return cosines

    def _unit(self, word: str) -> NDArray[np.float32]:
        unit = self._units.get(word)
        if unit is None:
            vector = np.asarray(self.pipeline.nlp.vocab.get_vector(word), np.float32)
            norm = float(np.linalg.norm(vector))
            unit = self._units[word] = vector / norm if norm else np.zeros_like(vector)
        return unit


def coverage(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Share of the distinct nouns (verbs) of a region's references that its caption says.

    A region's references are parsed as one text, joined by spaces, in NFC. Exact:
    |caption's ∩ references'| / (|references'| + 1e-8). Fuzzy (`..._fuzzy`): for each word of the
    references the largest similarity to a word of the caption, 0 where it has none, over the same
    denominator; it may be negative. A reference without a verb scores 0 and stays in the mean, as
    in the paper; a note says how many there are.

    Raises:
        NotComputed: There is no spaCy, no pipeline, or (fuzzy) not the paper's word vectors.
    """
    kind, fuzzy = context.name.partition("_")[0], context.name.endswith("_fuzzy")
    parser = _parser(context)
    pipeline = parser.pipeline
    if fuzzy:
        check_vectors(pipeline)
    joined = [" ".join(row.references) for row in rows]
    words = parser.words_of([*joined, *(row.caption for row in rows)])
    values, num_bare = [], 0
    for row, text in zip(rows, joined, strict=True):
        wanted, given = words[text][kind], words[row.caption][kind]
        num_bare += not wanted
        if fuzzy:
            hits = (
                float(parser.similarities(wanted, given).max(1).sum()) if wanted and given else 0.0
            )
        else:
            hits = float(len(set(wanted) & set(given)))
        values.append(hits / (len(wanted) + _EPSILON))
    notes: tuple[str, ...] = ()
    if kind == "verb" or num_bare:
        notes = (
            f"{kind} recall: {num_bare} of {len(rows)} regions ({num_bare / len(rows):.1%}) have "
            f"no {kind} in their references; they score 0 and stay in the mean, as in the paper",
        )
    how = _FUZZY if fuzzy else "exact"
    named = {
        "scorer": f"sca_bench coverage (spaCy {pipeline.name}, {_SAID[kind]}, {how})",
        "version": f"{REVISION}, spaCy {pipeline.spacy_version}, "
        f"{pipeline.name} {pipeline.version} ({', '.join(pipeline.nlp.pipe_names)})",
        "tokenizer": f"spaCy {pipeline.nlp.lang}",
    }
    return [Scored(context.name, sum(values) / len(values), values, rows, named, notes)]


def _parser(context: Context) -> Parser:
    """Return the parser of the pipeline that is asked for, kept from one system to the next."""
    given = named_pipeline()
    key = f"coverage {given}"
    if key not in context.memory:
        context.memory[key] = Parser(load_pipeline(given))
    parser: Parser = context.memory[key]
    return parser


def named_pipeline() -> str:
    """Return the package or folder of the pipeline that is asked for."""
    return os.environ.get(SPACY_VARIABLE) or PAPERS_PIPELINE


def load_pipeline(given: str) -> Pipeline:
    """Load a pipeline without what coverage does not need.

    Args:
        given: An installed package's name, or a folder that spaCy saved a pipeline to.

    Raises:
        NotComputed: There is no spaCy, no such pipeline, or one that has no parts of speech.
    """
    if find_spec("spacy") is None:
        raise NotComputed("spaCy is not installed: pip install 'sca_bench[coverage]'")
    folder = Path(given).expanduser()
    if not folder.is_dir() and not _is_package(given):
        named = f"{SPACY_VARIABLE}={given}" if os.environ.get(SPACY_VARIABLE) else given
        raise NotComputed(
            f"the spaCy pipeline {named} is neither installed nor a folder: install "
            f"{PAPERS_PIPELINE}, or name another pipeline's package or folder in {SPACY_VARIABLE}"
        )
    try:
        spacy = import_module("spacy")
        with warnings.catch_warnings():
            # A pipeline of another minor release of spaCy: the signature names both versions.
            warnings.filterwarnings("ignore", message=r"\[W095\]")
            nlp = spacy.load(folder if folder.is_dir() else given, exclude=list(_LEFT_OUT))
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise NotComputed(f"the spaCy pipeline {given} cannot be loaded: {reason}") from error
    meta = nlp.meta
    name = f"{meta['lang']}_{meta['name']}"
    if nlp.lang != "en":
        raise NotComputed(
            f"the spaCy pipeline {name} is for the language {nlp.lang!r}, captions are English: "
            f"name an English one in {SPACY_VARIABLE}"
        )
    if not set(_POS) & set(nlp.pipe_names):
        raise NotComputed(
            f"the spaCy pipeline {name} ({given}) gives no parts of speech, it has only "
            f"{', '.join(nlp.pipe_names) or 'no component'}: name one with a tagger and an "
            f"attribute ruler in {SPACY_VARIABLE}"
        )
    return Pipeline(nlp, name, str(meta["version"]), str(spacy.__version__))


def _is_package(name: str) -> bool:
    return bool(import_module("spacy.util").is_package(name))


def check_vectors(pipeline: Pipeline) -> None:
    """Refuse every table of word vectors but the paper's.

    Raises:
        NotComputed: It is another one; says which.
    """
    vectors = pipeline.nlp.vocab.vectors
    (rows, width), keys = vectors.shape, vectors.n_keys
    name = f"{pipeline.name} {pipeline.version}"
    fault = ""
    if not rows or not width:
        fault = f"{name} has no word vectors"
    elif vectors.mode != "default":
        fault = f"{name} has {vectors.mode} vectors, another kind of table"
    elif keys > rows:
        fault = f"{name} has a pruned table of word vectors, {keys:,} keys on {rows:,} rows"
    elif pipeline.name != PAPERS_PIPELINE or width != _WIDTH or keys < _MIN_KEYS:
        fault = f"{name} has another table of word vectors, {keys:,} keys of {width} numbers"
    if fault:
        raise NotComputed(
            f"{fault}; fuzzy coverage compares only with the {_WIDTH} numbers a word of "
            f"{PAPERS_PIPELINE}: install it, or name its folder in {SPACY_VARIABLE}"
        )


def found_tagger() -> str:
    """Return the pipeline that would find parts of speech.

    Raises:
        NotComputed: See `load_pipeline`.
    """
    pipeline = load_pipeline(named_pipeline())
    return f"{pipeline.name} {pipeline.version}, spaCy {pipeline.spacy_version}"


def found_vectors() -> str:
    """Return the pipeline whose word vectors would be compared.

    Raises:
        NotComputed: See `load_pipeline` and `check_vectors`.
    """
    pipeline = load_pipeline(named_pipeline())
    check_vectors(pipeline)
    return f"word vectors of {pipeline.name} {pipeline.version}"
