"""What registries name as text is there: `module:attribute`, imported only when it is used."""

from importlib import import_module
from importlib.util import find_spec

import pytest

from sca_bench.engine.fork_servers import FOR_LOADERS, FOR_WORKERS
from sca_bench.engine.measure import probe_run
from sca_bench.engine.worker import pool
from sca_bench.metrics.caption_text.similarity import MODELS
from sca_bench.metrics.registry import all_metrics
from sca_bench.variants import all_variants

TASKS = (pool.PREPARE, pool.RUN, probe_run.READ, probe_run.PREPARE, probe_run.RUN)
NAMED = sorted(
    {spec.compute for spec in all_metrics().values() if spec.compute}
    | {task.function for task in TASKS}
    | {
        name
        for spec in all_variants().values()
        for name in (spec.builder, spec.parts, spec.design)
        if name
    }
)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_is_there(name):
    module, _, attribute = name.partition(":")
    assert callable(getattr(import_module(module), attribute))


@pytest.mark.parametrize("module", [MODELS, *FOR_LOADERS, *FOR_WORKERS])
def test_modules_named_alone_are_there(module):
    assert find_spec(module) is not None
