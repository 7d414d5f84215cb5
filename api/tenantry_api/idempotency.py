"""Requests that are made once, however often they are sent.

What was answered to a request with an Idempotency-Key is written into the Tenant together with what it changed:
after a crash either both are there or none, and every replica sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from tenantry_api.problems import Invalid, Problem
from tenantry_api.tenants import REQUESTS_ANNOTATION

Object = dict[str, Any]

KEPT = timedelta(hours=24)
_MOST = 256
_LONGEST_KEY = 255


@dataclass(frozen=True, slots=True)
class Request:
    """A request with an Idempotency-Key."""

    key: str
    """A hash of the key and of who sent it."""
    content: str
    """A hash of method, path and body."""

    @classmethod
    def of(cls, key: str | None, subject: str, method: str, path: str, body: Any) -> Request | None:
        """The request; None: it has no key.

        :raises Invalid: for a key that is too long.
        """
        if not key:
            return None
        if len(key) > _LONGEST_KEY:
            raise Invalid(f"Idempotency-Key has at most {_LONGEST_KEY} characters")
        text = orjson.dumps([method, path, body], option=orjson.OPT_SORT_KEYS)
        return cls(_hash(f"{subject}\n{key}".encode()), _hash(text))

    def answered(self, obj: Object) -> Object | None:
        """What was answered when an object shows that the request was made already.

        :raises Problem: 422, when the key was another request's.
        """
        for entry in requests_of(obj):
            if entry.get("key") == self.key:
                self.check(entry)
                answer: Object = entry.get("answer") or {}
                return answer
        return None

    def check(self, entry: Mapping[str, Any]) -> None:
        """:raises Problem: 422, when the key was another request's."""
        if entry.get("content") != self.content:
            raise Problem(
                "this Idempotency-Key was used for another request; use a new one",
                status=422,
                code="idempotency_mismatch",
            )

    def note(self, obj: Object, answer: Object, now: datetime | None = None) -> None:
        """Writes into an object that is to be changed what will be answered."""
        at = now or datetime.now(UTC)
        kept = [entry for entry in requests_of(obj) if _time(entry) > at - KEPT][-_MOST + 1 :]
        kept.append({"key": self.key, "content": self.content, "at": at.isoformat(), "answer": answer})
        annotations = obj["metadata"].setdefault("annotations", {})
        annotations[REQUESTS_ANNOTATION] = orjson.dumps(kept).decode()


def requests_of(obj: Object) -> list[Object]:
    """The requests that an object remembers, oldest first; none when somebody spoiled them."""
    text = (obj["metadata"].get("annotations") or {}).get(REQUESTS_ANNOTATION)
    try:
        value = orjson.loads(text) if text else []
    except orjson.JSONDecodeError:
        return []
    limit = datetime.now(UTC) - KEPT
    return [entry for entry in value if isinstance(entry, dict) and _time(entry) > limit]


def _time(entry: Mapping[str, Any]) -> datetime:
    try:
        at = datetime.fromisoformat(entry["at"])
    except (KeyError, ValueError, TypeError):
        return datetime.min.replace(tzinfo=UTC)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
