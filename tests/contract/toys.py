"""Toy packages of strangers, each sound as it stands, and what breaks the contract of one."""

CAPTIONER = '''
import random

import torch
from torch import nn
from torch.nn import functional as F

from sca_bench.errors import InputError
from sca_bench.settings import Settings, of_kind
from sca_bench.types import Prediction
from sca_bench.variants import VariantSpec

WORDS = ("red", "blue", "green", "yellow")
CALLS = []


class Options(Settings):
    width: int = 4
    loud: bool = False
    fast: bool = of_kind("cost", False)


class Colours(nn.Module):
    """Says a colour after the mean pixel of a box."""

    def __init__(self, eyes, options):
        super().__init__()
        self.eyes, self.options = eyes, options
        self.hidden = nn.Linear(4, options.width)
        self.head = nn.Linear(options.width, len(WORDS))

    def logits(self, batch):
        boxes = batch.real(batch.boxes_xyxy_input_BR4).long().clamp(min=0).tolist()
        means = torch.stack([
            batch.pixel_values_B3HW[image, :, y0 : y1 + 1, x0 : x1 + 1].mean((1, 2))
            for image, (x0, y0, x1, y1) in zip(batch.image_index().tolist(), boxes)
        ])
        seen = self.eyes(means)
        return self.head(self.hidden(seen))

    def loss(self, batch):
        CALLS.append(1)
        said = [next((w for w in c.split() if w in WORDS), WORDS[0]) for c in batch.captions]
        loss = F.cross_entropy(self.logits(batch), torch.tensor([WORDS.index(w) for w in said]))
        return loss

    def generate(self, batch, decoding):
        if not batch.region_ids:
            return []
        scores, places = self.logits(batch).log_softmax(1).max(1)
        words = [WORDS[place].upper() if self.options.loud else WORDS[place] for place in places]
        rows = zip(batch.region_ids, words, scores.tolist())
        return [Prediction(region, word, score, (), 0.0) for region, word, score in rows]

    def trained(self):
        return {n: p for n, p in self.named_parameters() if not n.startswith("eyes.")}

    def trainable_state(self):
        return {name: p.detach() for name, p in self.trained().items()}

    def load_trainable_state(self, state, where="checkpoint"):
        own = self.trained()
        if state.keys() != own.keys():
            raise InputError(where, "", "holds other tensors")
        for name, tensor in own.items():
            if tensor.shape != state[name].shape:
                raise InputError(where, name, "has another shape")
            with torch.no_grad():
                tensor.copy_(state[name])


def load(settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {"eyes": nn.Linear(3, 4).requires_grad_(False)}


def build(settings, parts):
    return Colours(parts["eyes"], settings.options)


SPEC = VariantSpec(
    name="colours",
    builder="MODULE:build",
    parts="MODULE:load",
    summary="Says a colour after the mean pixel of a box",
    options="MODULE:Options",
)
'''

SHARING = """
import torch
from torch import nn

from sca_bench.batch import RegionFeatures
from sca_bench.settings import Settings
from sca_bench.types import Prediction
from sca_bench.variants import VariantSpec


class Options(Settings):
    zoom: float = 1.0
    loud: bool = False


class Bright:
    \"\"\"Says whether a box is bright; how it sees is frozen, and shared.\"\"\"

    def __init__(self, options):
        self.options = options

    def frozen_features(self, batch, *, families=None, with_masks=False):
        means_B = batch.pixel_values_B3HW.mean((1, 2, 3)) * self.options.zoom
        index_N = batch.image_index()
        rows_N1 = means_B[index_N][:, None]
        count = len(batch.image_ids)
        return RegionFeatures(rows_N1, index_N, count, tokens_NTC=rows_N1[:, None])

    def generate(self, batch, decoding):
        features = batch.features or self.frozen_features(batch)
        seen = features.tokens_NTC.flatten().tolist()
        words = ["BRIGHT" if self.options.loud else "bright" for _ in seen]
        rows = zip(batch.region_ids, words, seen)
        return [Prediction(region, word, -abs(score), (), 0.0) for region, word, score in rows]


def build(settings, parts):
    return Bright(settings.options)


SPEC = VariantSpec(
    name="bright",
    builder="MODULE:build",
    summary="Says whether a box is bright",
    options="MODULE:Options",
    frozen_reads=("options.zoom",),
    trains="never",
)
"""

METRIC = """
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.registry import MetricSpec

SPEC = MetricSpec(
    name="shared_words",
    summary="Share of a caption's words that a reference has; 0-1",
    family="shared_words",
    scorer="my shared_words",
    package="",
    tokenizer="blanks",
    compute="MODULE:shared_words",
)


def share(row):
    words = row.caption.split()
    known = {word for reference in row.references for word in reference.split()}
    return sum(word in known for word in words) / max(1, len(words))


def shared_words(rows, context):
    values = [share(row) for row in rows]
    value = sum(values) / len(values)
    return [Scored(context.name, value, values, rows)]
"""

READER = '''
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError
from sca_bench.settings import ImageFolderSplit, of_kind
from sca_bench.specs.readers import ReaderSpec
from sca_bench.types import ImageRecord, Region


class Lines(ImageFolderSplit):
    """A line a region: image, left, top, right, bottom, caption."""

    dataset: Literal["lines"]
    boxes: str = of_kind("path")


def read(split):
    file = Path(split.boxes)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(file, "", "cannot be read", "check the path") from error
    images, regions = {}, []
    for number, line in enumerate(lines, 1):
        fields = line.split(maxsplit=5)
        if len(fields) != 6:
            raise InputError(file, f"line {number}", "has no six fields")
        name, caption, box = fields[0], fields[5], tuple(map(float, fields[1:5]))
        path = Path(split.images) / name
        try:
            with Image.open(path) as picture:
                width, height = picture.size
        except OSError as error:
            raise InputError(path, "", "cannot be read", "check `images`") from error
        images[name] = ImageRecord(name, width, height, str(path))
        regions.append(Region(f"{name}-{number}", name, box, (caption,)))
    return RegionSet("lines", images, tuple(regions))


def example(folder):
    (folder / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (2, 30, 40, 3), dtype=np.uint8)
    for name, pixels in zip("ab", noise):
        Image.fromarray(pixels).save(folder / "pictures" / f"{name}.png")
    text = "a.png 2 2 20 20 a dog\\na.png 4 4 9 9 a cat\\nb.png 1 1 40 30 a house\\n"
    (folder / "boxes.txt").write_text(text)
    return {"boxes": str(folder / "boxes.txt"), "images": str(folder / "pictures")}


SPEC = ReaderSpec(
    name="lines",
    title="Lines",
    settings=Lines,
    read="MODULE:read",
    summary="A line a region",
    example="MODULE:example",
)
'''

ENCODER = """
import torch
from torch import nn
from torch.nn import functional as F

from sca_bench.settings import Settings
from sca_bench.specs.encoders import EncoderSpec


class Options(Settings):
    width: int = 8


class Patches(nn.Module):
    def __init__(self, dims, width):
        super().__init__()
        self.image_size, self.grid = dims.image_size, dims.grid
        self.first = nn.Conv2d(3, width, 1)
        self.last = nn.Conv2d(width, dims.embed_dim, 1)

    def forward(self, pixels):
        small = F.adaptive_avg_pool2d(pixels, self.grid)
        return self.last(self.first(small).relu())


def build(settings, dims):
    encoder = Patches(dims, settings.options.width)
    return encoder.requires_grad_(False).eval()


SPEC = EncoderSpec(
    name="patches",
    summary="The mean of each patch through two layers",
    build="MODULE:build",
    scale="small",
    options="MODULE:Options",
)
"""

DESIGN = '''
from torch import nn

from sca_bench.models.designs import CaptionQueries, Design
from sca_bench.settings import Settings
from sca_bench.specs.designs import DesignSpec


class Options(Settings):
    gain: float = 1.0


class OwnTokens(CaptionQueries):
    """SAM's mask tokens as queries of one head."""

    def __init__(self, width, gain):
        super().__init__()
        self.bring, self.gain = nn.Linear(width, width), gain

    def heads(self, num_candidates):
        return 1

    def forward(self, features):
        tokens_NTC = features.need("tokens_NTC")[:, 1:5]
        return self.gain * self.bring(tokens_NTC)[:, None]


def design(mixer, dims, options):
    return Design(OwnTokens(dims.embed_dim, options.gain), ("mixed",))


SPEC = DesignSpec(
    name="own_tokens",
    summary="SAM's mask tokens as queries, without a text mixer",
    design="MODULE:design",
    options="MODULE:Options",
    ignores=("mixer.as_published",),
)
'''

PLOT = """
from matplotlib.figure import Figure

from sca_bench.report.figures.registry import PlotSpec


def facts(suite):
    return sorted(suite.cells) if suite.frame["value"].notna().any() else None


def draw(names):
    figure = Figure()
    axes = figure.add_subplot()
    axes.barh(range(len(names)), [len(name) for name in names])
    return figure


SPEC = PlotSpec(
    name="lengths_of_names",
    title="Lengths of names",
    caption="How long the names of cells are.",
    facts="MODULE:facts",
    draw="MODULE:draw",
)
"""

SOUND = {
    "captioner": CAPTIONER,
    "captioner that shares features": SHARING,
    "metric": METRIC,
    "reader": READER,
    "encoder": ENCODER,
    "design": DESIGN,
    "plot": PLOT,
}

BREAKS = [
    (
        "captioner",
        "its caption depends on padding",
        ("self.hidden(seen))", "self.hidden(seen) * batch.region_mask_BR.shape[1])"),
        "padded_regions_leave_real_ones_unchanged",
    ),
    (
        "captioner",
        "its caption depends on the neighbour",
        ("seen = self.eyes(means)", "seen = self.eyes(means - means.mean(0))"),
        "the_answer_does_not_depend_on_what_stands_beside_it",
    ),
    (
        "captioner",
        "its caption depends on the region before",
        ("seen = self.eyes(means)", "seen = self.eyes(means + means.roll(1, 0))"),
        "permuted_regions_permute_the_answers",
    ),
    (
        "captioner",
        "it draws from the global generator",
        ("scores, places =", "torch.rand(1); scores, places ="),
        "random_streams_of_others_stay_as_they_are",
    ),
    (
        "captioner",
        "it draws from Python's generator while it is built",
        ("self.eyes, self.options =", "self.luck = random.random(); self.eyes, self.options ="),
        "random_streams_of_others_stay_as_they_are",
    ),
    (
        "captioner",
        "it reads pixels that it says it does not need",
        ('    name="colours",', '    name="colours",\n    needs_pixels=False,'),
        "pixels_are_read_only_where_that_is_said",
    ),
    (
        "captioner",
        "it seeds the generator itself",
        ("    return Colours(", "    torch.manual_seed(7)\n    return Colours("),
        "the_seed_decides_what_is_drawn",
    ),
    (
        "captioner",
        "its loss counts padded regions",
        ("return loss", "return loss * len(said) / batch.region_mask_BR.numel()"),
        "the_loss_ignores_padded_regions",
    ),
    (
        "captioner",
        "its loss does not read captions",
        ("[WORDS.index(w) for w in said]", "[0 for w in said]"),
        "the_loss_depends_on_the_captions",
    ),
    (
        "captioner",
        "its trainable state misses a tensor",
        ('not n.startswith("eyes.")', 'n.startswith("head.")'),
        "save_and_load_give_the_same_captioner",
    ),
    (
        "captioner",
        "its trainable state holds what is frozen",
        ('if not n.startswith("eyes.")', ""),
        "trainable_state_holds_nothing_frozen",
    ),
    (
        "captioner",
        "its trainable state holds a copy of what is frozen",
        (
            "in self.trained().items()}",
            "in self.named_parameters()} | {'eyes': self.eyes.weight + 0}",
        ),
        "trainable_state_holds_nothing_frozen",
    ),
    (
        "captioner",
        "it loads foreign tensors silently",
        ("state.keys() != own.keys()", "own.keys() - state.keys()"),
        "tensors_that_do_not_fit_are_refused",
    ),
    (
        "captioner",
        "it ignores an option in its key that changes captions",
        ('options="MODULE:Options"', 'options="MODULE:Options", ignores=("options.loud",)'),
        "what_is_no_part_of_the_key_changes_no_answer",
    ),
    (
        "captioner",
        "an option that is said to cost time changes captions",
        ("if self.options.loud", "if self.options.fast"),
        "what_is_no_part_of_the_key_changes_no_answer",
    ),
    (
        "captioner",
        "it trains a frozen part",
        (".requires_grad_(False)", ""),
        "frozen_parts_get_no_gradient_and_do_not_move",
    ),
    (
        "captioner",
        "its training sees the cells beside it",
        ("return loss", "return loss * (1 + len(CALLS) % 3)"),
        "lockstep_equals_solo",
    ),
    (
        "captioner that shares features",
        "it shares features that an option changes",
        ('frozen_reads=("options.zoom",)', 'frozen_reads=("options.loud",)'),
        "features_depend_on_what_shares_them",
    ),
    (
        "metric",
        "the first row counts more",
        ("value = sum(values) / len(values)", "value = (values[0] + sum(values)) / 9"),
        "no_row_comes_before_another",
    ),
    (
        "metric",
        "it leaves its range",
        ("/ max(1, len(words))", "/ max(1, len(words) - 2)"),
        "it_gives_a_value_in_its_range",
    ),
    (
        "metric",
        "it needs a word at least",
        ("max(1, len(words))", "len(words)"),
        "an_empty_caption_has_a_value",
    ),
    (
        "metric",
        "it remembers what it scored",
        (
            "value = sum(values) / len(values)",
            "known = context.memory.setdefault('k', []); known += values;"
            " value = sum(known) / len(known)",
        ),
        "what_was_scored_before_does_not_matter",
    ),
    (
        "metric",
        "it needs pictures and does not say so",
        ("values = [share", "context.images(rows[0].image_id); values = [share"),
        "it_needs_what_it_says",
    ),
    (
        "metric",
        "less of it is better, it says",
        ('package=""', 'package="", higher_is_better=False'),
        "better_captions_have_better_values",
    ),
    (
        "reader",
        "two regions have one id",
        ('f"{name}-{number}"', "name"),
        "region_ids_are_unique",
    ),
    (
        "reader",
        "a box leaves its image",
        ("b.png 1 1 40 30", "b.png 1 1 41 30"),
        "regions_lie_in_their_images",
    ),
    (
        "reader",
        "it writes into the folder",
        ("images, regions = {}, []", 'images, regions = {}, []; (file.parent / "x").touch()'),
        "it_writes_nothing",
    ),
    (
        "reader",
        "a missing file is a traceback",
        (
            "except OSError as error:\n        raise InputError(file,",
            "except KeyError as error:\n        raise InputError(file,",
        ),
        "a_missing_file_is_one_clear_line",
    ),
    (
        "reader",
        "it reads a file whose content is in no key",
        ('of_kind("path")', 'of_kind("label")'),
        "it_reads_only_what_its_settings_name",
    ),
    (
        "reader",
        "it reads a file that no setting names",
        (
            "images, regions = {}, []",
            "images, regions = {}, []; (file.parent / 'pictures' / 'a.png').stat()",
        ),
        "it_reads_only_what_its_settings_name",
    ),
    (
        "encoder",
        "an image depends on its batch",
        ("small = F.", "pixels = pixels - pixels.mean(0); small = F."),
        "an_image_does_not_depend_on_its_batch",
    ),
    (
        "encoder",
        "its embeddings can be differentiated",
        ("self.last(self.first", "torch.ones(1, requires_grad=True) * self.last(self.first"),
        "it_is_frozen",
    ),
    (
        "encoder",
        "it drops some of what it sees",
        ("small = F.", "pixels = F.dropout(pixels); small = F."),
        "the_same_embeddings_twice",
    ),
    (
        "encoder",
        "its channels are not SAM's",
        ("dims.embed_dim, 1)", "dims.embed_dim + 1, 1)"),
        "it_can_be_built",
    ),
    (
        "design",
        "its queries have the wrong shape",
        (
            "self.bring(tokens_NTC)[:, None]",
            "self.bring(tokens_NTC)[:, None].expand(-1, 2, -1, -1)",
        ),
        "queries_have_their_shape",
    ),
    (
        "design",
        "it reads features that it does not name",
        ('("mixed",)', '("mixed", "images")'),
        "it_makes_a_design",
    ),
    (
        "plot",
        "it cannot do without runs",
        (
            'sorted(suite.cells) if suite.frame["value"].notna().any() else None',
            'suite.cells[: int(suite.frame["value"].mean())]',
        ),
        "it_is_drawn_without_runs",
    ),
    (
        "plot",
        "it writes a file",
        ("    return figure", "    figure.savefig('own.png')\n    return figure"),
        "it_writes_nothing",
    ),
    (
        "plot",
        "it draws itself",
        ("    return figure", "    return axes"),
        "it_is_drawn",
    ),
]
"""Kind of toy, what is wrong, (text, text that takes its place), and the check that finds it."""
