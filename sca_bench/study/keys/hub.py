"""Which commit a hub id means here and now. No torch."""

from __future__ import annotations

from pathlib import Path

_TIMEOUT_S = 5.0


def hub_commit(repo_id: str) -> str:
    """Return the commit of a hub id that a run here would read; empty where it cannot be told.

    The local cache decides, as it does when weights are loaded. Where it holds nothing yet, the
    hub is asked what it would be given now, so that a first run, which downloads, and the second
    have the same key.

    Args:
        repo_id: `owner/name`.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    cached = try_to_load_from_cache(repo_id, "config.json")
    if isinstance(cached, str):  # .../snapshots/<commit>/config.json
        return Path(cached).parent.name
    if constants.HF_HUB_OFFLINE:
        return ""
    try:
        return HfApi().model_info(repo_id, timeout=_TIMEOUT_S).sha or ""
    except Exception:  # the client's errors have no common base; loading says what is wrong
        return ""
