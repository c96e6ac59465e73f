"""`init`: a commented suite, or a small package that adds something, to begin with."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from sca_bench.cli.frame import CALL, Actions
from sca_bench.errors import InputError
from sca_bench.output import say

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands


_OTHER_NAME = "give it another one"


@dataclass(frozen=True, slots=True)
class Package:
    """A kind of thing that a package can add.

    Attributes:
        about: What it is, for help texts.
        kinds: What `list` calls the kind.
        contract: The class of `sca_bench.contract` that tries it.
        use: How a suite, or a command, uses it.
    """

    about: str
    kinds: str
    contract: str
    use: str

    @property
    def group(self) -> str:
        """The entry-point group that it registers in."""
        return f"sca_bench.{'readers' if self.kinds == 'datasets' else self.kinds}"


PACKAGES = {
    "variant": Package(
        "a captioner of your own, with settings of its own",
        "variants",
        "VariantContract",
        "base: {variant: MY_NAME}",
    ),
    "metric": Package(
        "a metric of your own", "metrics", "MetricContract", "metrics: [cider_d, MY_NAME]"
    ),
    "reader": Package(
        "a reader of a data set's files",
        "datasets",
        "ReaderContract",
        "base: {data: {train: {dataset: MY_NAME, ...}}}",
    ),
    "encoder": Package(
        "an image encoder in the place of SAM's",
        "encoders",
        "EncoderContract",
        "base: {encoder: {type: MY_NAME}}",
    ),
    "design": Package(
        "a design: what stands in front of the text decoder",
        "designs",
        "DesignContract",
        "base: {variant: MY_NAME}",
    ),
    "plot": Package("a plot in every report", "plots", "PlotContract", ""),
}


def add_parser(commands: Commands) -> None:
    """Add `init` to the command line."""
    init = commands.add_parser(
        "init",
        help="write a commented suite, or a package that adds something, to begin with",
        description="Write something small that works, with comments that say how to go on. "
        "Nothing is ever overwritten.",
        examples=("init suite my_suite", "init metric my_metric"),
    )
    actions = Actions(init)
    kinds = {kind: f"a package of one file: {package.about}" for kind, package in PACKAGES.items()}
    suite = "a suite: one question, its cells, and what you claim of them"
    for kind, about in {"suite": suite, **kinds}.items():
        action = actions.add(kind, about, (f"init {kind} my_{kind}",))
        action.add("name", metavar="NAME", help="small letters, digits and _, a letter first")
        action.add("--out", metavar="DIR", default=".", help="folder to write into (here)")
    init.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Write the files of a kind and say what to do next."""
    kind, name, out = options.action, options.name, Path(options.out)
    _check_word(kind, name)
    if kind == "suite":
        file = out / f"{name}.yaml"
        _write({file: _filled("suite.yaml", MY_NAME=name, MY_FILE=quote(str(file)))})
        say(f"next: {CALL} plan {quote(str(file))}")
        return 0
    package = PACKAGES[kind]
    _check_free(kind, name, package)
    values = {
        "MY_NAME": name,
        "MY_WHAT": f"{'an' if kind == 'encoder' else 'a'} {kind}",
        "MY_CONTRACT": package.contract,
        "MY_GROUP": package.group,
        "MY_KINDS": package.kinds,
    }
    folder = out / name
    _write(
        {
            folder / "pyproject.toml": _filled("pyproject.txt", **values),
            folder / f"{name}.py": _filled(f"{kind}.txt", **values),
            folder / f"test_{name}.py": _filled("test.txt", **values),
        }
    )
    say(f"next: pip install -e {quote(str(folder))}")
    say(f"      {CALL} test {quote(str(folder / f'{name}.py'))}")
    say(f"      {CALL} describe {name}")
    if package.use:
        say(f"      in a suite: {package.use.replace('MY_NAME', name)}")
    return 0


def _check_word(kind: str, name: str) -> None:
    """Refuse what is no name in Python, or no text in YAML."""
    import keyword

    import yaml

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        fix = "use small letters, digits and _, a letter first"
        raise InputError(f"init {kind}", name, "cannot be a name", fix)
    language = "Python" if keyword.iskeyword(name) else "YAML"
    if language == "Python" or not isinstance(yaml.safe_load(name), str):
        raise InputError(f"init {kind}", name, f"means something in {language}", _OTHER_NAME)


def _check_free(kind: str, name: str, package: Package) -> None:
    """Refuse a name that another module or another thing of that kind has."""
    from importlib.util import find_spec

    from sca_bench.cli.lookup.kinds import specs_of

    fix = _OTHER_NAME
    if name in specs_of(package.kinds):
        raise InputError(f"init {kind}", name, f"is the name of one of the {package.kinds}", fix)
    if find_spec(name) is not None:
        raise InputError(f"init {kind}", name, "is the name of a module that is installed", fix)


def _filled(template: str, **values: str) -> str:
    """Return a template with `MY_NAME` and the like filled in."""
    text = (Path(__file__).parent / "templates" / template).read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _write(files: Mapping[Path, str]) -> None:
    """Write new files.

    Raises:
        InputError: One is there already; then none is written.
    """
    from sca_bench.files import write_atomic

    for path in files:
        if path.exists():
            raise InputError(path, "", "is there already", "give another name, or another --out")
    for path, text in files.items():
        write_atomic(path, text)
        say(f"{path}: written")
