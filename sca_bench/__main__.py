"""`python -m sca_bench`, and the command `sca-bench`."""

import sys


def main() -> int:
    """Run the command line; signals are answered before anything else is imported."""
    try:
        from sca_bench.lifetime import stops

        stops.install(watch=True)
        from sca_bench.cli import light
        from sca_bench.cli import main as run
        from sca_bench.lifetime import scratch

        if not light(sys.argv[1:]):
            scratch.lend()
        code = run()
        stops.settle(code)
    except KeyboardInterrupt as stop:
        from sca_bench.lifetime import stops

        code = stops.say(stop)
    if stops.times_asked():  # threads and exit handlers of libraries may wait for long
        stops.end(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
