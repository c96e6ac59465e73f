"""A small suite on rendered scenes, with weights that are only named, never read."""

import textwrap

import pytest

SUITE = """
    # Costs nothing.
    # Expect nothing.
    suite: demo
    question: Does depth matter?
    base: {variant: sca, sam: {size: tiny, weights: random}, text_decoder: {weights: random}}
    axes: {mixer.num_layers: [1, 2]}
    seeds: [0, 1]
    metrics: [cider_d]
"""


@pytest.fixture
def write(tmp_path):
    def _write(text=SUITE, **replacements):
        text = textwrap.dedent(text).lstrip()
        for old, new in replacements.items():
            text = text.replace(old.replace("__", " "), new)
        path = tmp_path / "demo.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


@pytest.fixture
def suite_text():
    return textwrap.dedent(SUITE)
