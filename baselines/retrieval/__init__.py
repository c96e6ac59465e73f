"""The caption of the training region that looks most alike to SAM: no words are learnt."""

from sca_bench.variants import VariantSpec

SPEC = VariantSpec(
    name="retrieval",
    builder="baselines.retrieval.captioner:build",
    parts="sca_bench.models.build:load_sam_parts",
    summary="The caption of the nearest training region by SAM's features (control)",
    frozen=("image_encoder", "prompt_encoder", "sam_mixer"),
    reads=(
        "sam",
        "encoder",
        "mixer.image_grid",
        "baseline",
        "data",
        "eval",
        "features",
        "train.precision",
        "train.prompt",
        "train.order_seed",
    ),
    keys_lacked=(("mixer.image_grid", ("1", "2")),),
    has_sams_features=True,
    features=("mixed",),
    trains="once",
    revision="3",
    source="a control of this suite",
)
