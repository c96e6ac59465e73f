"""Which commit a hub id means: what the cache says, else the hub, else nothing."""

from types import SimpleNamespace

import huggingface_hub
import pytest

from sca_bench.study.keys.hub import hub_commit


@pytest.fixture
def hub(monkeypatch):
    """What the cache and the hub say; and what the hub is asked."""
    said = SimpleNamespace(cached=None, offline=False, answer=SimpleNamespace(sha="f00"), asked=[])

    class Api:
        def model_info(self, repo_id, timeout):
            said.asked.append((repo_id, timeout))
            if isinstance(said.answer, Exception):
                raise said.answer
            return said.answer

    def cached(repo_id, name):
        assert (repo_id, name) == ("owner/name", "config.json")
        return said.cached

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return said


def test_the_cache_decides(hub):
    hub.cached = "/cache/models--owner--name/snapshots/abc123/config.json"
    assert hub_commit("owner/name") == "abc123"
    assert hub.asked == []


def test_the_hub_is_asked_where_nothing_is_cached(hub):
    assert hub_commit("owner/name") == "f00"
    assert hub.asked == [("owner/name", 5.0)]
    hub.cached = object()  # known to be missing there
    assert hub_commit("owner/name") == "f00"


def test_what_cannot_be_told_is_nothing(hub, monkeypatch):
    for answer in (SimpleNamespace(sha=None), OSError("no network")):
        hub.answer = answer
        assert hub_commit("owner/name") == ""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert hub_commit("owner/name") == ""
    assert len(hub.asked) == asked
