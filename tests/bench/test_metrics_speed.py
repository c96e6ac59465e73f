"""What scoring costs beside pycocoevalcap's own classes, and that the numbers are the same.

    python -m pytest tests/bench/test_metrics_speed.py -m bench -s

Captions are region-like: phrases of 3-8 words cut out of the COCO example's reference sentences,
each region's references likewise. Cut at random they repeat by themselves (about a fifth of 40,000;
region captions repeat more), and once more are drawn without any repetition.

Twenty systems share a first system's captions: a caption is that of the first system or, with
probability `SCA_BENCH_OWN` (0.5), the system's own. Cells of an ablation agree more often than
that. The ratio is printed for systems that share nothing, too.

pycocoevalcap is called once per system, tokenising included, and starts METEOR's process each time,
as its users do. Its cost does not depend on what systems share, so it is measured on
`SCA_BENCH_REFERENCE_SYSTEMS` (3) of the twenty and scaled to twenty. Wall time decides, in one
process one after the other; processor time of all processes is printed beside it.
"""

import json
import os
import random
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sca_bench.metrics.coco_caption import reference_scorers
from sca_bench.metrics.coco_caption.java import find_java, scorer_folder
from sca_bench.metrics.coco_caption.references import ReferenceIndex
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer

FIXTURES = Path(__file__).parents[1] / "metrics" / "fixtures"
REFERENCE_SYSTEMS = int(os.environ.get("SCA_BENCH_REFERENCE_SYSTEMS", "3"))
OWN = float(os.environ.get("SCA_BENCH_OWN", "0.5"))
SYSTEMS = 20
METRICS = ("meteor", "cider_d", "bleu", "rouge_l")
LEAST_RATIO_LIGHT = 6.0
MOST_MIB = 1.2 * 1024

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def captions_by_image():
    with zipfile.ZipFile(scorer_folder() / "spice" / "spice-1.0.jar") as jar:
        annotations = json.loads(jar.read("coco/annotations/captions_val2014.json"))["annotations"]
    captions: dict[int, list[str]] = {}
    for annotation in annotations:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    return captions


@pytest.fixture(scope="module")
def sentences(captions_by_image):
    example = json.loads((FIXTURES / "fakecap.json").read_text())
    return [text.split() for record in example for text in captions_by_image[record["image_id"]]]


def phrase(sentences, rng):
    words = rng.choice(sentences)
    size = rng.randint(3, 8)
    start = rng.randint(0, max(0, len(words) - size))
    return " ".join(words[start : start + size])


def phrases(sentences, rng, count, distinct=False):
    if not distinct:
        return [phrase(sentences, rng) for _ in range(count)]
    found = {}
    while len(found) < count:
        found[phrase(sentences, rng)] = None
    return list(found)


def clock():
    """Return wall time and processor time of this process and of those it has waited for, in s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), time.process_time() + used.ru_utime + used.ru_stime])


@pytest.mark.parametrize("distinct", [False, True], ids=["repeated", "distinct"])
def test_without_java(sentences, distinct):
    """40,000 captions of one reference each: index and scores from nothing, five pairs."""
    rng = random.Random(0)
    groups = [[text.lower()] for text in phrases(sentences, rng, 40_000, distinct)]
    captions = [text.lower() for text in phrases(sentences, rng, 40_000, distinct)]
    ratios = []
    for _ in range(5):
        start = time.perf_counter()
        index = ReferenceIndex(groups)
        found = [index.cider_d(captions), index.rouge_l(captions), index.bleu(captions)]
        ours = time.perf_counter() - start
        start = time.perf_counter()
        expected = [
            reference_scorers.cider_d(groups, captions),
            reference_scorers.rouge_l(groups, captions),
        ]
        bleu = reference_scorers.bleu(groups, captions)
        theirs = time.perf_counter() - start
        ratios.append(theirs / ours)
        print(f"\npycocoevalcap {theirs:.2f} s, indexed {ours:.2f} s: {ratios[-1]:.1f} times")
    for (_, per_region), (_, wanted) in zip(found, expected, strict=False):
        np.testing.assert_allclose(per_region, wanted, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[2][1].T, bleu[1], rtol=0, atol=1e-9)
    share = len(set(captions)) / len(captions)
    print(f"{share:.0%} of the captions distinct; median ratio {np.median(ratios):.1f}")
    assert np.median(ratios) >= LEAST_RATIO_LIGHT


def by_pycocoevalcap(rows):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    keys = range(len(rows))
    groups = {key: [{"caption": text} for text in rows[key].references] for key in keys}
    groups = PTBTokenizer().tokenize(groups)
    captions = PTBTokenizer().tokenize({key: [{"caption": rows[key].caption}] for key in keys})
    bleu = Bleu(4).compute_score(groups, captions, verbose=0)[0]
    meteor = Meteor()
    scores = {f"bleu_{n}": value for n, value in enumerate(bleu, start=1)}
    scores["meteor"] = meteor.compute_score(groups, captions)[0]
    meteor.meteor_p.stdout.close()  # It leaves these two open when it ends.
    meteor.meteor_p.stderr.close()
    scores["rouge_l"] = Rouge().compute_score(groups, captions)[0]
    scores["cider_d"] = Cider().compute_score(groups, captions)[0]
    return scores


@pytest.mark.parametrize(("count", "least"), [(5_000, 4.0), (40_000, 2.0)])
def test_twenty_systems(sentences, count, least, monkeypatch):
    """Twenty systems on the same references, all but SPICE, tokenising and start-up included."""
    monkeypatch.setenv("PATH", find_java().environment(os.environ)["PATH"])
    rng = random.Random(0)
    references = [(text,) for text in phrases(sentences, rng, count)]
    first = phrases(sentences, rng, count)

    def system(number, own):
        rng = random.Random(number)
        captions = [phrase(sentences, rng) if rng.random() < own else text for text in first]
        return [
            CaptionRow(str(n), str(n // 8), text, group)
            for n, (text, group) in enumerate(zip(captions, references, strict=True))
        ]

    print()
    ours = {}
    for own in dict.fromkeys((OWN, 1.0)):
        systems = [system(number, own) for number in range(SYSTEMS)]
        start = clock()
        with Scorer() as scorer:
            results = [scorer.score(rows, METRICS) for rows in systems]
        ours[own] = clock() - start
        print(f"{own:.0%} own: {ours[own][0]:.1f} s wall, {ours[own][1]:.1f} s CPU", flush=True)
    measured = systems[:REFERENCE_SYSTEMS]  # Those with captions of their own; results at hand.
    start = clock()
    for rows, result in zip(measured, results, strict=False):
        for key, value in by_pycocoevalcap(rows).items():
            assert result.values[key] == pytest.approx(value, abs=1e-9), key
    theirs = (clock() - start) * SYSTEMS / len(measured)
    print(
        f"pycocoevalcap {theirs[0]:.0f} s wall, {theirs[1]:.0f} s CPU for {SYSTEMS} systems of"
        f" {count:,} captions, scaled up from {len(measured)}"
    )
    for own, used in ours.items():
        wall, cpu = theirs / used
        print(f"{own:.0%} own captions: {wall:.1f} times by wall, {cpu:.1f} by processor time")
    assert theirs[0] / ours[OWN][0] >= least


MEMORY = """
import json, sys
from pathlib import Path
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer

def peak_mib():  # ru_maxrss would be inherited from the process that started this one
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1024

groups = json.load(sys.stdin)
rows = [CaptionRow(str(n), str(n), groups[n - 1][0], tuple(g)) for n, g in enumerate(groups)]
before = peak_mib()
with Scorer() as scorer:
    result = scorer.score(rows, ("meteor", "cider_d", "bleu", "rouge_l"))
assert not result.not_computed, result.not_computed
print(before, peak_mib())
"""


def test_memory(captions_by_image):
    """40,000 images with COCO's five references: this process, not the Java ones."""
    told = json.dumps([group[:5] for group in list(captions_by_image.values())[:40_000]])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], input=told, text=True, stdout=subprocess.PIPE, check=True
    )
    before, peak = map(float, done.stdout.split())
    print(f"\npeak {peak:.0f} MiB, {before:.0f} MiB of it before scoring")
    assert peak < MOST_MIB
