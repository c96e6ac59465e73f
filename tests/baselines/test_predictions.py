import json

import pytest

from baselines.predictions.captioner import build
from sca_bench.captioner import Decoding
from sca_bench.contract import CaptionerContract, toy_batch
from sca_bench.errors import InputError

IDS = toy_batch().region_ids


def settings_of(cell_settings, file):
    return cell_settings(baseline__weights=str(file))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [{"region_id": name, "caption": f"answer {name}"} for name in [*IDS, "another"]]
    rows[0] |= {"log_prob": -0.5, "predicted_ious": [0.9, 0.1]}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    return path


class TestContract(CaptionerContract):
    looks = False

    @pytest.fixture(autouse=True)
    def _made(self, cell_settings, file, tmp_path):
        self.settings = settings_of(cell_settings, file)
        self.lost = settings_of(cell_settings, tmp_path / "nothing.jsonl")

    def captioner(self):
        return build(self.settings)

    def broken(self):
        yield lambda: build(self.lost)


def test_answers_are_those_of_the_file(cell_settings, file):
    found = build(settings_of(cell_settings, file)).generate(toy_batch(), Decoding())
    assert [p.caption for p in found] == [f"answer {name}" for name in IDS]
    assert (found[0].log_prob, found[0].predicted_ious) == (-0.5, (0.9, 0.1))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", r"line 1: is not JSON"),
        ("[1]", r"line 1: is no object; expected region_id and caption"),
        ('{"region_id": 1.5, "caption": "a"}', r"line 1: region_id: is 1.5, expected a string"),
        ('{"region_id": "a"}', r"line 1: caption: is null, expected a string"),
        (
            '{"region_id": "a", "caption": "b", "log_prob": "x"}',
            r"line 1: log_prob: is \"x\", expected",
        ),
        (
            '{"region_id": "a", "caption": "b", "log_prob": NaN}',
            r"line 1: log_prob: is NaN, expected",
        ),
        ('{"region_id": "a", "caption": "b"}\n' * 2, r"line 2: region 'a' is answered twice"),
    ],
)
def test_a_bad_line_is_named(cell_settings, tmp_path, line, problem):
    path = tmp_path / "bad.jsonl"
    path.write_text(line)
    with pytest.raises(InputError, match=rf"bad\.jsonl: {problem}"):
        build(settings_of(cell_settings, path))


def test_a_region_without_an_answer_is_named(cell_settings, file):
    file.write_text("\n".join(file.read_text().splitlines()[1:]))
    captioner = build(settings_of(cell_settings, file))
    with pytest.raises(InputError, match=rf"mine\.jsonl: region_id: no line for region '{IDS[0]}'"):
        captioner.generate(toy_batch(), Decoding())
