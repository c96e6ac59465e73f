"""What the metric tests share: the COCO example and one METEOR process in a hostile environment."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from sca_bench.metrics.coco_caption import meteor, ptb_tokenizer
from sca_bench.metrics.coco_caption.java import scorer_folder
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer

FIXTURES = Path(__file__).parent / "fixtures"
# Another locale, and options for all of the user's Java programs that contradict the scorers' own.
HOSTILE = {
    "LANG": "it_IT.UTF-8",
    "LC_ALL": "it_IT.UTF-8",
    "JAVA_TOOL_OPTIONS": "-Duser.language=it -Duser.country=IT -XX:+UseParallelGC",
    "_JAVA_OPTIONS": "-Duser.language=it -Duser.country=IT -Duser.language.format=it",
}


@pytest.fixture(scope="session")
def hostile():
    return dict(HOSTILE)


@pytest.fixture(scope="session")
def odd_folder(tmp_path_factory):
    """The scorers' jars in a folder whose name has all that paths and URLs stumble over."""
    folder = tmp_path_factory.mktemp("scorers") / "caf\u00e9 \u4e2d %20 a+b;c#d?e&f'g"
    for name in (
        "meteor/meteor-1.5.jar",
        "meteor/data/paraphrase-en.gz",
        "tokenizer/stanford-corenlp-3.4.1.jar",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            (folder / name).hardlink_to(scorer_folder() / name)
        except OSError:  # on another disk
            shutil.copy(scorer_folder() / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def scorer(java, odd_folder):
    """One scorer for the session: starting METEOR takes ten seconds of CPU."""
    with pytest.MonkeyPatch.context() as patch, Scorer() as shared:
        for name, value in {**HOSTILE, "LC_ALL": "POSIX", "TMPDIR": str(odd_folder)}.items():
            patch.setenv(name, value)
        for module in (meteor, ptb_tokenizer):
            patch.setattr(module, "scorer_folder", lambda: odd_folder)
        yield shared


@pytest.fixture(scope="session")
def reference_values():
    return json.loads((FIXTURES / "reference.json").read_text())


@pytest.fixture(scope="session")
def coco_captions():
    """Captions of COCO's val2014 by image id, from inside SPICE's jar."""
    with zipfile.ZipFile(scorer_folder() / "spice" / "spice-1.0.jar") as jar:
        annotations = json.loads(jar.read("coco/annotations/captions_val2014.json"))["annotations"]
    captions: dict[int, list[str]] = {}
    for annotation in annotations:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    return captions


@pytest.fixture(scope="session")
def example_rows(coco_captions):
    """The 1,000 captions of the COCO example."""
    return [
        CaptionRow(
            str(record["image_id"]),
            str(record["image_id"]),
            record["caption"],
            tuple(coco_captions[record["image_id"]]),
        )
        for record in json.loads((FIXTURES / "fakecap.json").read_text())
    ]


@pytest.fixture(scope="session")
def further_rows(coco_captions, example_rows):
    """500 images outside the example: a caption held out, or for each third that of the next."""
    known = {int(row.image_id) for row in example_rows}
    images = [image for image in sorted(coco_captions) if image not in known][:501]
    rows = []
    for number, image in enumerate(images[:500]):
        said = coco_captions[images[number + 1] if number % 3 == 0 else image][-1]
        rows.append(CaptionRow(str(image), str(image), said, tuple(coco_captions[image][:-1])))
    return rows


@pytest.fixture
def fake_java(tmp_path):
    """Return a function that makes a Java whose program is the given Python text."""
    import sys

    from sca_bench.metrics.coco_caption.java import Java

    def make(program: str) -> Java:
        path = tmp_path / "java"
        path.write_text(f"#!{sys.executable}\n{program}")
        path.chmod(0o755)
        return Java(str(path), "test")

    return make


@pytest.fixture
def java_on_path(monkeypatch):
    """Let pycocoevalcap's own classes, which call `java` by name, find the same Java."""
    from sca_bench.metrics.coco_caption.java import find_java

    monkeypatch.setenv("PATH", find_java().environment(os.environ)["PATH"])
