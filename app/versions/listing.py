"""The versions in the store, for /model/versions."""

from typing import Any

from app.settings import Settings
from app.versions.loading import MAX_REASON_CHARACTERS, Skipped
from model_store.errors import ModelError
from model_store.store import Store

MAX_VERSIONS = 100  # the newest


def list_versions(settings: Settings, served: int, skipped: tuple[Skipped, ...]) -> dict[str, Any]:
    """Build the part of the JSON that comes from the store's folder; reads names only."""
    store, name, problem = Store(settings.store), settings.model_name, None
    versions, active = list[int](), None
    try:
        versions = store.versions(name)
        active = store.active_version(name)
    except ModelError as error:
        problem = error.public[:MAX_REASON_CHARACTERS]
    reasons = {item.version: item.reason for item in skipped}
    shown = sorted({*versions, served}, reverse=True)[:MAX_VERSIONS]
    return {
        "model": name,
        "serving": str(served),
        "active": active and str(active),
        "versions": [_describe(str(version), str(served), reasons) for version in shown],
        "store_problem": problem,
    }


def _describe(version: str, served: str, reasons: dict[str, str]) -> dict[str, str | None]:
    if version == served:
        return {"version": version, "state": "serving", "reason": reasons.get(version)}
    return {
        "version": version,
        "state": "skipped" if version in reasons else "available",
        "reason": reasons.get(version),
    }
