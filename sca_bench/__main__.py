"""`python -m sca_bench`, and the command `sca-bench`."""

import sys

from sca_bench.lifetime import stops


def main() -> int:
    """Run the command line; signals are answered before anything else is imported."""
    stops.install(watch=True)
    try:
        from sca_bench.cli import light
        from sca_bench.lifetime import scratch

        with scratch.lent(not light(sys.argv[1:])):
            from sca_bench.cli import main as run

            code = run()
            stops.settle()
    except KeyboardInterrupt as stop:
        stops.leave(stop)
    if stops.times_asked():  # threads and exit handlers of libraries may wait for long
        stops.end(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
