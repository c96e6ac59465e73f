import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption import ptb_tokenizer
from sca_bench.metrics.coco_caption.java import Java
from sca_bench.metrics.coco_caption.ptb_tokenizer import (
    canonical,
    normalise,
    ptb_tokenize,
    ptb_tokenize_groups,
)

LINE_SHIFTERS = [*"\r\v\f\n\t\x00\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u2003\u3000", "\r\n"]
CHARACTERS = st.one_of(
    st.sampled_from(LINE_SHIFTERS),
    st.sampled_from(list("aAbB12 .,;:!?'\"`-()[]{}<>&/\\|@#$%*_éñ日😀\u200b\ufeff\xad")),
    st.sampled_from(["U.S.", "Inc.", "...", "http://", "can't", "|||", "1/2", "<br>", "&amp;"]),
    st.characters(),
)


def test_normalise_keeps_length_and_words():
    assert normalise("a\u2028b\r\nc\x85d\xa0e\tf\x00g") == "a b  c d e f g"
    assert normalise("lone \ud800 surrogate") == "lone   surrogate"
    assert normalise("crème brûlée, 日本 😀") == "crème brûlée, 日本 😀"


def test_canonical():
    assert canonical("  A\u2028Red \t DOG ") == "a red dog"


@pytest.mark.parametrize("end", ["", "x"])
def test_no_character_shifts_a_later_caption(end, java):
    captions = []
    for character in LINE_SHIFTERS:
        captions += [f"a{character}b{character}{end}", "next"]
    tokens = ptb_tokenize(java, captions)
    assert tokens[1::2] == ["next"] * len(LINE_SHIFTERS)
    assert tokens[0::2] == [f"a b {end}".strip()] * len(LINE_SHIFTERS)


def test_empty_captions_keep_their_place(java):
    captions = ["", "a dog", "", "...", "  ", "a cat", "", ""]
    assert ptb_tokenize(java, captions) == ["", "a dog", "", "", "", "a cat", "", ""]
    assert ptb_tokenize(java, []) == []


def test_groups(java):
    groups = [["A dog.", "Dogs"], ["a man's hat"]]
    expected = [["a dog", "dogs"], ["a man 's hat"]]
    assert ptb_tokenize_groups(java, groups) == expected


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(CHARACTERS, max_size=12).map("".join), min_size=30, max_size=60))
def test_any_text_gives_one_line_each(java, captions):
    marked = [text for caption in captions for text in (caption, "fence post")]
    tokens = ptb_tokenize(java, marked)
    assert tokens[1::2] == ["fence post"] * len(captions)
    assert not any("\n" in line for line in tokens)


def test_same_tokens_as_pycocoevalcap(example_rows, java_on_path, monkeypatch, capfd, java):
    from pycocoevalcap.tokenizer import ptbtokenizer

    monkeypatch.delenv("JAVA_TOOL_OPTIONS", raising=False)
    captions = [row.references[0] for row in example_rows[:300]]
    captions += [row.caption for row in example_rows[:300]]
    captions += ["D.C. is (not) \"there\" -- it's 1/2 o'clock; 'ok'!", "The U.S.", "A & B <c>", "x"]
    groups = {index: [{"caption": caption}] for index, caption in enumerate(captions)}
    theirs = ptbtokenizer.PTBTokenizer().tokenize(groups)
    capfd.readouterr()  # The JVM's chatter of pycocoevalcap's own call.
    assert ptb_tokenize(java, captions) == [theirs[i][0] for i in range(len(captions))]


def test_nothing_is_printed_nor_written_whatever_the_place(
    capfd, hostile, monkeypatch, java, odd_folder
):
    """Jars in a folder with an odd name, no folder for temporary files, an ASCII locale."""
    for name, value in {**hostile, "LC_ALL": "C", "TMPDIR": "/nowhere at all"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ptb_tokenizer, "scorer_folder", lambda: odd_folder)
    captions = ["perché no", "\u4e2d \u00fcber", "tail"]
    assert ptb_tokenize(java, captions) == captions
    assert capfd.readouterr() == ("", "")


def test_wrong_line_count_is_refused(fake_java):
    lying = fake_java("print('a')\nprint('b')")
    with pytest.raises(NotComputed, match="returned 2 lines for 3 captions"):
        ptb_tokenize(lying, ["a", "b", "c"])


def test_failures_say_why(fake_java):
    broken = fake_java("import sys\nprint('Could not find class', file=sys.stderr)\nsys.exit(1)")
    with pytest.raises(NotComputed, match=r"exit code 1\): Could not find class"):
        ptb_tokenize(broken, ["a"])
    with pytest.raises(NotComputed, match="does not start"):
        ptb_tokenize(Java("/nowhere/java", "test"), ["a"])
    slow = fake_java("import time\ntime.sleep(30)")
    with pytest.raises(NotComputed, match=r"longer than 0.2 s"):
        ptb_tokenize(slow, ["a"], timeout_s=0.2)
