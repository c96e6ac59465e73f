"""`python -m sca_bench`, and the command `sca-bench`."""

import sys

from sca_bench.lifetime import scratch, stops


def main() -> int:
    """Run the command line; signals are answered before anything else is imported."""
    stops.install(watch=True)
    try:
        from sca_bench.cli import light
        from sca_bench.cli import main as run

        if not light(sys.argv[1:]):
            scratch.lend()
        code = run()
        stops.settle()
    except KeyboardInterrupt as stop:
        code = stops.say(stop)
    if stops.times_asked():  # threads and exit handlers of libraries may wait for long
        scratch.give_back()
        stops.end(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
