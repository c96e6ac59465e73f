"""Signals, from a command's first moment on: the usual code, one line, nothing left."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.command import ROOT, finish, wait_for
from survival.kill_runs import session

TERM, HUP, INT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT
COMMANDS = {
    "run": (["run", "mixer_layers"], INT),
    "sweep": (["sweep", "lr_depth"], TERM),
    "score": (["score", "rows.jsonl"], HUP),
    "report": (["report"], TERM),
    "plan": (["plan", "mixer_layers"], INT),
    "check": (["check", "mixer_layers"], HUP),
    "verify": (["verify", "CELL"], TERM),
    "caption": (["caption", "a.png", "--box", "1,2,3,4", "--run", "CELL"], INT),
    "export": (["export", "CELL", "--out", "x"], HUP),
    "track": (["track", "sync"], TERM),
    "test": (["test", "most_frequent"], INT),
    "weights": (["weights", "verify", "sam_vit_b"], TERM),
    "data": (["data", "verify", "visual_genome"], HUP),
    "cache": (["cache", "list"], INT),
    "list": (["list", "suites"], TERM),
    "init": (["init", "suite", "mine"], HUP),
}


def answers(pid, number):
    """Say whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder of its own for the commands of a test."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def stopped(running, number, whole_group=False):
    """Send a signal; return what was printed, once the code and the one line were right."""
    (os.killpg if whole_group else os.kill)(running.pid, number)
    out = finish(running, 128 + number)
    name = signal.Signals(number).name
    assert out.count(f"stopped by {name}; run the same command again to go on\n") == 1
    assert "Traceback" not in out
    return out


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for handlers in /proc")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_answers_while_it_starts(process, temporary, command):
    """The first moment at which there is a handler is long before the imports are done."""
    words, number = COMMANDS[command]
    running = process(*words, start_new_session=True)
    wait_for(lambda: answers(running.pid, HUP), running, poll_s=0.001)  # the last to get one
    out = stopped(running, number, whole_group=True)
    assert len(out.splitlines()) == 1
    assert not list(temporary.iterdir())


def test_a_scorer_is_stopped_with_its_java(process, temporary, tmp_path, java):
    (tmp_path / "rows.jsonl").write_text(
        '{"region_id": "a", "image_id": "a", "caption": "a cat", "references": ["a cat"]}\n'
    )
    running = process("score", "rows.jsonl", "--metrics", "meteor", start_new_session=True)

    def has_java():
        names = (Path(f"/proc/{pid}/comm") for pid in session(running.pid))
        return any(name.read_text().strip() == "java" for name in names if name.exists())

    wait_for(has_java, running)
    out = stopped(running, INT, whole_group=True)
    assert len(out.splitlines()) == 1
    assert not session(running.pid)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("number", [TERM, signal.SIGKILL])
def test_a_plan_is_stopped_with_what_measures(process, temporary, number):
    running = process("plan", "mixer_layers", "--seeds", "0", start_new_session=True)
    wait_for(lambda: len(session(running.pid)) > 1, running)
    if number == TERM:
        stopped(running, number)
        assert not list(temporary.iterdir())
    else:
        running.kill()
        running.communicate()
    end = time.monotonic() + 20
    while session(running.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not session(running.pid)


def run_script(text, **more):
    """Run a few lines of Python with the package; return exit code and all that was printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_swallows_a_signal_meets_it_again():
    """As SQLAlchemy does, which rolls back and goes on; and where nothing can be raised."""
    code, out = run_script("""
        import os, signal, sys, time
        from sca_bench.lifetime import stops

        class Fragile:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)

        stops.install()
        try:
            fragile = Fragile()
            del fragile  # raised inside, where Python ignores it
            for _ in range(2):
                try:
                    time.sleep(9)
                except BaseException as error:
                    print("swallowed", error)
            time.sleep(9)
        except KeyboardInterrupt as stop:
            sys.exit(stops.say(stop))
    """)
    assert code == 128 + TERM
    assert out.splitlines() == [
        "swallowed SIGTERM",
        "swallowed SIGTERM",
        "stopped by SIGTERM; run the same command again to go on",
    ]


def test_a_program_that_starts_while_a_signal_comes_is_not_forgotten():
    code, out = run_script("""
        import os, signal, subprocess, sys
        from sca_bench.lifetime import stops

        class Program(subprocess.Popen):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                os.kill(os.getpid(), signal.SIGTERM)

        stops.install()
        subprocess.Popen = Program
        try:
            program = stops.start_child(["sleep", "60"])
            program.wait()
        except KeyboardInterrupt as stop:
            program.kill()
            sys.exit(stops.say(stop))
    """)
    assert (code, out) == (143, "stopped by SIGTERM; run the same command again to go on\n")


def test_a_main_thread_that_does_not_answer_is_ended():
    code, out = run_script("""
        import hashlib, os, signal, threading
        from sca_bench.lifetime import stops

        stops._PATIENCE_S = 0.3
        stops.install(watch=True)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGHUP)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    """)
    assert (code, out) == (129, "stopped by SIGHUP; run the same command again to go on\n")


@pytest.mark.parametrize("when", ["atexit.register(Late().__del__)", "threading.late = Late()"])
def test_a_signal_after_the_work_changes_no_code(when):
    """Also while Python takes its modules apart, and its handlers before."""
    code, out = run_script(f"""
        import atexit, os, signal, sys, threading
        from sca_bench.lifetime import stops

        class Late:
            def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGTERM):
                kill(process, number)

        stops.install(watch=True)
        {when}
        stops.settle(3)
        sys.exit(3)
    """)
    assert (code, out) == (3, "")


def test_a_hangup_that_is_ignored_stays_so():
    """`nohup`."""
    code, out = run_script("""
        import os, signal
        from sca_bench.lifetime import stops

        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stops.install()
        os.kill(os.getpid(), signal.SIGHUP)
        print("still here")
    """)
    assert (code, out) == (0, "still here\n")


def test_a_fault_that_comes_of_a_signal_is_no_traceback(monkeypatch, capsys, tmp_path):
    from sca_bench import cli
    from sca_bench.cli import score

    def interrupted(*_):
        try:
            os.kill(os.getpid(), TERM)
            time.sleep(5)
        finally:
            raise RuntimeError("this session is in the state prepared")

    monkeypatch.setattr(score, "command", interrupted)
    before = signal.getsignal(INT)
    assert cli.main(["score", "x.jsonl"]) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; run the same command again to go on\n"
    assert signal.getsignal(INT) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with ThreadPoolExecutor() as pool:  # as a notebook's widget may; that signal was another's
        assert pool.submit(cli.main, ["list", "metrics"]).result() == 0


@pytest.mark.parametrize("limit_mib", [300, 1000])
def test_an_address_space_that_is_too_small_is_one_line(process, tmp_path, limit_mib):
    """Torch itself cannot be loaded."""
    most = limit_mib * 2**20
    running = process(
        "run",
        "mixer_layers",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )
    out = finish(running, 2)
    assert "Traceback" not in out
    assert out.splitlines()[-1].startswith("run: ")
    assert "give it more memory" in out.splitlines()[-1]
