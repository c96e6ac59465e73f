"""sca_bench: experiment and ablation benchmarks for region captioning.

    runs = sca_bench.run("mixer_layers")   # train and score what is not done yet
    print(runs.headline("mixer_layers"))   # the answer in words

    load_suite       read and check a suite, with overrides
    plan             what is done and left of it, a pandas frame
    run              run what is left; returns Runs
    Runs             a runs folder: scores, predictions, verdicts, headline, figure
    score            score a list of captions
    load_captioner   the model of a finished run, to caption regions; imports torch
    InputError       what is raised where the input is wrong, in one line

`help(sca_bench.run)` says more about each. Nothing is loaded before it is used.
"""

import typing

from sca_bench.api import offer

if typing.TYPE_CHECKING:
    from sca_bench.api.captions import load_captioner as load_captioner
    from sca_bench.api.captions import score as score
    from sca_bench.api.runs import Runs as Runs
    from sca_bench.api.suites import load_suite as load_suite
    from sca_bench.api.suites import plan as plan
    from sca_bench.api.suites import run as run
    from sca_bench.errors import InputError as InputError

__version__ = "0.1.0"

# No `__all__` and no functions of its own: `help(sca_bench)` is the text above, one screen.
__getattr__, __dir__ = offer(
    __name__,
    {
        "InputError": "errors",
        "Runs": "api.runs",
        "load_captioner": "api.captions",
        "load_suite": "api.suites",
        "plan": "api.suites",
        "run": "api.suites",
        "score": "api.captions",
    },
)
