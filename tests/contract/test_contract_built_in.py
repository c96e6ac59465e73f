"""Everything that this package brings passes the contract that it asks of others."""

import contextlib

import pytest
from run_checks import failed_checks

from sca_bench.contract import (
    DesignContract,
    EncoderContract,
    MetricContract,
    PlotContract,
    ReaderContract,
    VariantContract,
)
from sca_bench.metrics.coco_caption.ptb_tokenizer import TOKENIZER
from sca_bench.metrics.registry import METRICS
from sca_bench.metrics.score import Scorer
from sca_bench.plugins import attribute
from sca_bench.report.figures.registry import PLOTS
from sca_bench.specs.designs import DESIGNS
from sca_bench.specs.encoders import ENCODERS
from sca_bench.specs.readers import READERS

BASELINES = (
    "grit:SPEC",
    "grit:FROM_SCRATCH",
    "label:SPEC",
    "most_frequent:SPEC",
    "predictions:SPEC",
    "retrieval:SPEC",
    "sam_captioner:BLIP",
    "sam_captioner:BLIP2",
    "sam_captioner:GIT",
)
BY_JAVA = [name for name, spec in METRICS.own().items() if spec.tokenizer == TOKENIZER]
SMALL = [n for n, spec in ENCODERS.own().items() if spec.scale == "small" or spec.dims is None]
LARGE = [name for name, spec in ENCODERS.own().items() if spec.scale == "large"]


def contract_of(base, spec, **more):
    return type("Contract", (base,), {"spec": spec, **more})


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("name", DESIGNS.own())
def test_a_design(name):
    assert failed_checks(contract_of(DesignContract, DESIGNS.own()[name])) == {}


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("address", BASELINES)
def test_a_baseline(address):
    assert failed_checks(contract_of(VariantContract, attribute(f"baselines.{address}"))) == {}


@pytest.fixture(scope="module")
def shared_scorer():
    """One scorer for all, since each starts Java anew."""
    with Scorer() as scorer:
        yield scorer


def failed_of_metric(name, scorer):
    def same(self):
        return contextlib.nullcontext(scorer)

    return failed_checks(contract_of(MetricContract, METRICS.own()[name], scorer=same))


@pytest.mark.parametrize("name", sorted(METRICS.own().keys() - BY_JAVA))
def test_a_metric(name, shared_scorer):
    assert failed_of_metric(name, shared_scorer) == {}


@pytest.mark.parametrize("name", BY_JAVA)
def test_a_metric_of_the_field(name, shared_scorer, java):
    assert failed_of_metric(name, shared_scorer) == {}


@pytest.mark.parametrize("name", READERS.own())
def test_a_reader(name):
    assert failed_checks(contract_of(ReaderContract, READERS.own()[name])) == {}


def test_no_encoder_is_left_out():
    assert {*SMALL, *LARGE, "vit_t"} == set(ENCODERS.own())


@pytest.mark.parametrize("name", SMALL)
def test_an_encoder(name):
    assert failed_checks(contract_of(EncoderContract, ENCODERS.own()[name])) == {}


@pytest.mark.parametrize("name", [pytest.param("vit_t", marks=pytest.mark.bench), *LARGE])
def test_an_encoder_of_full_size(name):
    """MobileSAM takes 20 seconds, so that it is tried by hand; of larger ones little is asked."""
    assert failed_checks(contract_of(EncoderContract, ENCODERS.own()[name])) == {}


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("name", PLOTS.own())
def test_a_plot(name):
    assert failed_checks(contract_of(PlotContract, PLOTS.own()[name])) == {}
