"""Damaged texts: suites and sweeps, annotations in every format, predictions and tables."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from baselines.predictions.captioner import build
from fuzz.harness import Target
from sca_bench.contract import examples
from sca_bench.data.index.arrays import known_sources, write_index
from sca_bench.data.load import read_files
from sca_bench.data.readers.regions import read_texts
from sca_bench.errors import InputError, at
from sca_bench.metrics.detection.detections import read_described_boxes, read_detections
from sca_bench.metrics.rows import read_rows
from sca_bench.metrics.subsets import subset_rows
from sca_bench.reading import RECORD_BYTES, named_file, read_json, read_jsonl
from sca_bench.settings import BaselineSettings, CellSettings, unread_data
from sca_bench.specs.readers import READERS
from sca_bench.study.suite.published import read_published
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.sweep import load_sweep

ROOT = Path(__file__).parents[2]

# --- mutators ---------------------------------------------------------------------------------

_TOKENS = (
    *("1e400", "-1e400", "1e308", "-1e308", "-0.0", "NaN", "Infinity", "-Infinity", "0", "-1"),
    *("1e-320", "2147483648", "-9223372036854775809", "1" * 400, "9" * 5000, "true", "null"),
    *('""', '"a"', '"1"', '"\\ud800"', '"\\u0000"', '"\\u001b[31m"', '"../../x"', '"/etc/passwd"'),
    *("[]", "{}", "[[]]", "[[[1]]]", '{"a": 1}', "[1, 2, 3, 4]", "[1e400, 0, 1, 1]"),
    *("[-5, -5, 1e9, 1e9]", "[0, 0, -1, -1]", "[0, 0, 0, 0]", '["a", 0, 1, 1]', "1.5", "7.0"),
)
"""Values as JSON writes them; YAML reads most of them, too."""


def _value(rng: random.Random) -> str:
    kind = rng.randrange(12)
    if kind == 0:
        return "[" * (deep := rng.choice([10, 101, 990, 1100, 50_000])) + "]" * deep
    if kind == 1:
        return '{"a":' * (deep := rng.choice([101, 995, 20_000])) + "1" + "}" * deep
    if kind == 2:
        return json.dumps("x" * rng.choice([300, 100_000]))
    if kind == 3:
        return "[" + ", ".join(["1"] * rng.choice([5, 1000])) + "]"
    return rng.choice(_TOKENS)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items: Any = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        found += _places(inner, (*at, key))
    return found


def _parent(value: Any, at: tuple[Any, ...]) -> Any:
    for key in at[:-1]:
        value = value[key]
    return value


def damage_json(rng: random.Random, text: str) -> bytes:
    """Return JSON with some values changed, doubled, dropped or moved; and sometimes torn."""
    value, raw = json.loads(text), {}
    for number in range(rng.choice([0, 1, 1, 1, 2, 3])):
        if not (places := _places(value)):
            break
        at = rng.choice(places)
        inside, key = _parent(value, at), at[-1]
        how = rng.randrange(6)
        if how == 0:
            del inside[key]
        elif how == 1 and isinstance(inside, list):
            inside.insert(key, inside[key])
        elif how == 1:
            raw[f"@{number}@"] = f"{json.dumps(key)}: {_value(rng)}, {json.dumps(key)}"
            inside[f"@{number}@"] = inside.pop(key)  # the same key twice
        elif how == 2:
            other = rng.choice(places)
            try:
                inside[key] = json.loads(json.dumps(_parent(value, other)[other[-1]]))
            except (KeyError, IndexError, TypeError):
                continue
        elif how == 3 and isinstance(inside, dict):
            inside[rng.choice(["", "id", "a" * 5000, "\x1b[2J", "split", "bbox"])] = inside.pop(key)
        else:
            raw[f"@{number}@"] = _value(rng)
            inside[key] = f"@{number}@"
    out = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    for mark, token in raw.items():
        out = out.replace(f'"{mark}"', token)
    content = out.encode("utf-8", "surrogatepass")
    return content if rng.random() < 0.7 else damage_bytes(rng, content)


def damage_bytes(rng: random.Random, content: bytes) -> bytes:
    """Return bytes with some flipped, cut, doubled, or replaced by what means something."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        if not content:
            return content
        place = rng.randrange(len(content))
        stop = min(len(content), place + rng.choice([1, 2, 10, 100]))
        how = rng.randrange(7)
        if how == 0:
            content = content[:place]
        elif how == 1:
            flipped = bytes([content[place] ^ 1 << rng.randrange(8)])
            content = content[:place] + flipped + content[place + 1 :]
        elif how == 2:
            content = content[:place] + content[stop:]
        elif how == 3:
            content = content[:stop] + content[place:]
        elif how == 4:
            piece = rng.choice(
                [b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n\n", b"\xe2\x80\xa8"]
            )
            content = content[:place] + piece + content[place:]
        elif how == 5:
            content = content[:place] + rng.choice(_TOKENS).encode() + content[stop:]
        else:
            content = rng.choice(
                [b"\xef\xbb\xbf" + content, content.decode("latin-1").encode("utf-16")]
            )
    return content


def damage_lines(rng: random.Random, text: str) -> bytes:
    """Return JSON lines of which some are damaged, doubled, empty or torn."""
    lines = [line.encode() for line in text.splitlines()]
    for _ in range(rng.choice([1, 1, 2])):
        place = rng.randrange(len(lines))
        if (how := rng.randrange(5)) == 0:
            lines.insert(place, lines[place])
        elif how == 1:
            lines[place] = rng.choice([b"", b" ", b"[]", b"1", b'"a"', b"null", b"\xff"])
        else:
            lines[place] = damage_json(rng, text.splitlines()[place % len(text.splitlines())])
    content = b"\n".join(lines) + rng.choice([b"\n", b""])
    return content if rng.random() < 0.8 else damage_bytes(rng, content)


_YAML_TOKENS = (
    *_TOKENS,
    *("&a [*a]", "*a", "{<<: *a}", "!!python/object/apply:os.system ['x']", "!!binary aGk="),
    *("2023-02-30", "1:30", "010", "yes", "0o17", "0x1f", ".inf", ".nan", "~", "'", '"', "|", ">"),
    *("? a", "- a", "a: b: c", "{a: 1, a: 2}", "[1, 2", "{", "%YAML 2.0", "---", "...", "@", "`"),
    *("{from_variant: x}", "'{a}'", "'{{a}}'", "none", "sca", "first_of_image", "../x", "[0, 0]"),
)


def damage_yaml(rng: random.Random, text: str) -> bytes:
    """Return YAML with lines and values changed, doubled, dropped, moved or indented otherwise."""
    lines = text.splitlines()
    for _ in range(rng.choice([1, 1, 2, 4])):
        place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        line = lines[place]
        head, colon, value = line.partition(": ")
        how = rng.randrange(9)
        if how == 0:
            lines.insert(other, line)
        elif how == 1:
            del lines[place]
            lines = lines or [""]
        elif how == 2:
            lines[place] = " " * rng.choice([1, 2, 4]) + line
        elif how == 3:
            lines[place], lines[other] = lines[other], lines[place]
        elif how == 4 and colon:
            words = value.split()
            if words:
                words[rng.randrange(len(words))] = rng.choice(_YAML_TOKENS)
            lines[place] = f"{head}: {' '.join(words)}"
        elif how == 5:
            many = ", ".join(map(str, range(rng.choice([20, 3000, 30_000]))))
            lines[place] = f"{head}: [{many}]"
        elif how == 6:
            lines[place] = f"{head}: {'[' * 60}{_value(rng)}"
        elif how == 7:
            lines.insert(
                place, rng.choice(["cells: &c [*c]", "seeds: 5", "axes: {}", "adjust: [1]"])
            )
        else:
            lines[place] = f"{head}: {rng.choice((*_YAML_TOKENS, _value(rng)))}"
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    return content if rng.random() < 0.7 else damage_bytes(rng, content)


def damage_table(rng: random.Random, text: str) -> bytes:
    """Return CSV with cells changed, moved, quoted or torn."""
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(rng.choice([1, 2, 3])):
        row = rng.choice(rows)
        place = rng.randrange(len(row))
        how = rng.randrange(5)
        if how == 0:
            del row[place]
        elif how == 1:
            row.insert(place, row[place])
        elif how == 2:
            row[place] = rng.choice(
                ['"', '""', '"a', 'a"b', "a\0b", "x" * 140_000, "\n", "caption_2"]
            )
        else:
            row[place] = rng.choice(
                (*_TOKENS, _value(rng), "1_0", "\uff11\uff12", "caption_" + "9" * 5000)
            )
        rows = [row for row in rows if row] or [[""]]
    content = "\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass")
    return content if rng.random() < 0.8 else damage_bytes(rng, content)


def damage_pickle(rng: random.Random, content: bytes) -> bytes:
    """Return a pickle of other values, or a torn one."""
    if rng.random() < 0.5:
        value = json.loads(damage_json(rng, json.dumps(pickle.loads(content))).decode("utf-8"))
        return pickle.dumps(value, protocol=rng.choice([0, 2, 4]))
    place = rng.randrange(len(content))
    puts = [
        b"r\xff\xff\xff\x7f",
        b"p2000000000\n",
        b"\x8e" + b"\xff" * 8,
        b"j\xff\xff\xff\xff",
        b"2",
    ]
    if rng.random() < 0.4:
        return content[:place] + rng.choice(puts) + content[place:]
    return damage_bytes(rng, content)


# --- targets ----------------------------------------------------------------------------------


def _damage(
    how: Callable[[random.Random, str], bytes], *names: str
) -> Callable[[random.Random, Path, Path], None]:
    """Return what damages one of some files and copies the others."""

    def damage(rng: random.Random, seeds: Path, folder: Path) -> None:
        files = sorted(path for path in seeds.iterdir() if path.is_file())
        chosen = rng.choice([path for path in files if not names or path.name in names])
        for path in files if names else [chosen]:
            content = path.read_bytes()
            (folder / path.name).write_bytes(
                _changed(rng, path, content, how) if path == chosen else content
            )

    return damage


def _changed(
    rng: random.Random, path: Path, content: bytes, how: Callable[[random.Random, str], bytes]
) -> bytes:
    try:
        if path.suffix == ".p":
            return damage_pickle(rng, content)
        return how(rng, content.decode("utf-8"))
    except (ValueError, RecursionError):  # our own change cannot be written so
        return damage_bytes(rng, content)


def _write_suites(folder: Path) -> None:
    for path in sorted((ROOT / "ablations").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "\nsuite:" in f"\n{text}":
            (folder / path.name).write_text(text, encoding="utf-8")


def _write_sweeps(folder: Path) -> None:
    for path in sorted((ROOT / "ablations").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "\nsweep:" in f"\n{text}":
            (folder / path.name).write_text(text, encoding="utf-8")


def _check_suite(folder: Path) -> None:
    for path in folder.glob("*.yaml"):
        load_suite(path, allow_missing=True)


def _check_sweep(folder: Path) -> None:
    for path in folder.glob("*.yaml"):
        load_sweep(path)


def _set_value(rng: random.Random, seeds: Path, folder: Path) -> None:
    keys = [line.strip() for line in (seeds / "keys").read_text().splitlines()]
    key = rng.choice(keys)
    if rng.random() < 0.1:
        key = damage_bytes(rng, key.encode()).decode("utf-8", "surrogateescape")
    value = rng.choice((*_YAML_TOKENS, _value(rng)))
    if rng.random() < 0.3:
        value = damage_bytes(rng, value.encode()).decode("utf-8", "surrogateescape")
    (folder / "flag").write_text(f"{key}={value}", "utf-8", "surrogateescape", "")
    (folder / "s.yaml").write_bytes((seeds / "s.yaml").read_bytes())


def _write_keys(folder: Path) -> None:
    from sca_bench.study.suite.merge import known_paths

    (folder / "keys").write_text("\n".join([*sorted(known_paths()), "paths.x", "a.b"]))
    (folder / "s.yaml").write_text(
        "suite: s\nquestion: q\nbase: {variant: sca}\npaths: {x: null}\nseeds: [0]\n"
    )


def _check_set(folder: Path) -> None:
    flag = (folder / "flag").read_bytes().decode("utf-8", "surrogateescape")
    load_suite(folder / "s.yaml", overrides=[flag], allow_missing=True)


_WITHOUT_0 = str.maketrans("", "", "0")


def _reader(name: str, dataset: str, how: Any, *files: str) -> Target:
    spec = READERS.get(dataset)

    def seeds(folder: Path) -> None:
        made = folder / "made"
        made.mkdir()
        settings = getattr(examples, spec.example.partition(":")[2])(made)
        known = {}
        for key, value in settings.items():
            path = Path(str(value))
            if path.is_file():
                target = folder / f"{key}{path.suffix}"
                target.write_bytes(path.read_bytes())
                known[key] = target.name
            else:
                known[key] = value
        if name == "refcoco_pickle":
            refs = json.loads((folder / "refs.json").read_text())
            (folder / "refs.p").write_bytes(pickle.dumps(refs, protocol=2))
            known["refs"] = "refs.p"
        if dataset == "regions":
            rows = [json.loads(line) for line in (folder / "table.jsonl").read_text().splitlines()]
            (folder / "table.csv").write_text(_as_csv(rows))
        (folder / "settings.json").write_text(json.dumps(known))

    def check(folder: Path) -> None:
        known = json.loads((folder / "settings.json").read_text())
        for key, value in known.items():
            if isinstance(value, str) and (folder / value).is_file():
                known[key] = str(folder / value)
        if name == "regions_csv":
            known["table"] = str(folder / "table.csv")
        split = spec.settings.model_validate({"dataset": dataset, **known})
        region_set = read_files(split)
        for image_id in region_set.images:
            region_set.regions_of(image_id)
        region_set.digest()
        region_set.missing_images()
        if len(region_set.digest().translate(_WITHOUT_0)) % 4 == 0:  # it waits for the disk
            sources = {"annotations": folder / "settings.json"}
            write_index(region_set, folder / "index", known_sources(sources), str(known["images"]))
        if dataset == "regions":
            read_texts(Path(str(known["table"])), None)

    return Target(name, seeds, _damage(how, *files), check)


def _as_csv(rows: list[dict[str, Any]]) -> str:
    names = ["image", "x0", "y0", "x1", "y1", "caption", "region_id"]
    lines = [",".join(names)]
    for number, row in enumerate(rows):
        box = row.get("box_xyxy", [1, 1, 9, 9])
        lines.append(",".join(map(str, [row["image"], *box, "a tree", f"r{number}"])))
    return "\n".join(lines)


_ROWS = [
    {
        "region_id": f"r{number}",
        "image_id": number // 2,
        "caption": "a red ball",
        "references": ["a ball", "the red ball"],
        "box_xyxy": [1, 2.5, 30, 40],
        "score": 0.5,
        "log_prob": -0.5,
        "predicted_ious": [0.5],
        "slots": {"colour": "red"},
        "learnt_from": ["a ball"],
    }
    for number in range(4)
]


def _write_rows(folder: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in _ROWS)
    (folder / "rows.jsonl").write_text(text)


def _check_rows(folder: Path) -> None:
    path, faults = folder / "rows.jsonl", []
    settings = CellSettings(
        variant="predictions",
        baseline=BaselineSettings(weights=str(path)),
        data=unread_data(),
    )
    for read in (read_rows, read_detections, read_described_boxes, read_jsonl):
        try:
            read(path)
        except InputError as fault:
            faults.append(fault)
    try:
        build(settings)
    except InputError as fault:
        faults.append(fault)
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    (folder / "rows.json").write_bytes(b"[" + b",".join(lines) + b"]")
    try:
        read_rows(folder / "rows.json")
    except InputError as fault:
        faults.append(fault)
    if faults:
        raise max(faults, key=lambda fault: len(str(fault)))


def _write_subset(folder: Path) -> None:
    box = {"bbox": [1, 2.5, 29, 37.5], "caption": "a"}
    (folder / "a.json").write_text(
        json.dumps({"annotations": [{"id": n, "image_id": n, **box} for n in (0, 1)]})
    )
    (folder / "b.json").write_text(json.dumps(["r0", "r1"]))


def _check_subset(folder: Path) -> None:
    made = folder / "rows"
    made.mkdir()
    _write_rows(made)
    rows = read_rows(made / "rows.jsonl")
    for path in folder.glob("*.json"):
        subset_rows(rows, path)


def _write_published(folder: Path) -> None:
    lines = (ROOT / "reports" / "published.csv").read_text(encoding="utf-8").splitlines()
    (folder / "published.csv").write_text("\n".join(lines[:8]), encoding="utf-8")


def _write_settings(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"a": {"b": [1, 2]}, "c": "d", "e": 1.5}))


def _check_settings(folder: Path) -> None:
    with at(folder), named_file(folder):
        read_json(folder / "config.json", RECORD_BYTES)


TARGETS = (
    Target("suite", _write_suites, _damage(damage_yaml), _check_suite),
    Target("sweep", _write_sweeps, _damage(damage_yaml), _check_sweep),
    Target("set", _write_keys, _set_value, _check_set),
    Target("predictions", _write_rows, _damage(damage_lines), _check_rows),
    Target("subset", _write_subset, _damage(damage_json), _check_subset),
    Target(
        "published",
        _write_published,
        _damage(damage_table),
        lambda folder: read_published(folder / "published.csv"),
    ),
    Target("json_settings", _write_settings, _damage(damage_json), _check_settings),
    _reader("coco", "coco_instances", damage_json, "annotations.json"),
    _reader("v3det", "v3det", damage_json, "annotations.json"),
    _reader("grit", "visual_genome_grit", damage_json, "annotations.json"),
    _reader("panoptic", "coco_panoptic", damage_json, "annotations.json"),
    _reader("refcoco", "refcoco", damage_json, "refs.json", "instances.json"),
    _reader("refcoco_pickle", "refcoco", damage_json, "refs.p"),
    _reader("visual_genome", "visual_genome", damage_json, "regions.json", "image_data.json"),
    _reader("regions_jsonl", "regions", damage_lines, "table.jsonl"),
    _reader("regions_csv", "regions", damage_table, "table.csv"),
)
