"""What the operator knows of the cluster: the newest seen version of each object it watches.

Filled by listing and by kopf's watches, and kept up to date by the answers to the operator's own writes, so
that a reconcile never reads from the API server what was already seen. Whichever is newer wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""


def key_of(obj: Object) -> Key:
    """The key of an object."""
    meta = obj["metadata"]
    return (meta.get("namespace") or "", meta["name"])


def version_of(obj: Object) -> int:
    """The resource version as a number. Kubernetes promises from 1.35 on that they compare as numbers;
    etcd revisions always did."""
    return int(obj["metadata"].get("resourceVersion") or 0)


class Store:
    """The objects of one kind, with indices.

    :param indices: by name, a function from an object to the values it is found under.
    """

    def __init__(self, **indices: Callable[[Object], Iterable[str]]) -> None:
        self._objects: dict[Key, Object] = {}
        self._functions = indices
        self._indices: dict[str, dict[str, dict[Key, None]]] = {name: {} for name in indices}
        self._entries: dict[Key, tuple[tuple[str, str], ...]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    def get(self, key: Key) -> Object | None:
        """The object, or None."""
        return self._objects.get(key)

    def keys(self) -> list[Key]:
        """The keys of all objects."""
        return list(self._objects)

    def put(self, obj: Object) -> bool:
        """Keeps an object unless it, or a newer one, is known. True when it was news."""
        known = self._known(obj)
        if known is not None and version_of(known) >= version_of(obj):
            return False
        self._keep(obj)
        return True

    def put_answer(self, obj: Object) -> None:
        """Keeps the answer to a write of the operator's own to an object that is known.

        Not when the object was forgotten meanwhile: it is gone, and no watch would take it away again.
        The answer to a request that removes the last finalizer, and with it the object, has no version of
        its own, so that one of the known version is news: the API server repeats the one from before
        (``deleteWithoutFinalizers`` in ``k8s.io/apiserver/pkg/registry/generic/registry/store.go``).
        """
        known = self._known(obj)
        if known is not None and version_of(known) <= version_of(obj):
            self._keep(obj)

    def _known(self, obj: Object) -> Object | None:
        known = self._objects.get(key_of(obj))
        if known is None or known["metadata"].get("uid") != obj["metadata"].get("uid"):
            return None
        return known

    def _keep(self, obj: Object) -> None:
        key = key_of(obj)
        obj["metadata"].pop("managedFields", None)
        self._objects[key] = obj
        self._reindex(key, obj)

    def drop(self, key: Key, uid: str | None = None) -> bool:
        """Forgets an object; with ``uid`` only that very one. True when it was known."""
        known = self._objects.get(key)
        if known is None or (uid is not None and known["metadata"].get("uid") != uid):
            return False
        del self._objects[key]
        self._reindex(key, None)
        return True

    def find(self, index: str, value: str) -> list[Key]:
        """The keys of the objects that an index has under a value, oldest entry first."""
        return list(self._indices[index].get(value, ()))

    def all(self, index: str, value: str) -> list[Object]:
        """The objects that an index has under a value, oldest entry first."""
        return [self._objects[key] for key in self._indices[index].get(value, ())]

    def count(self, index: str, value: str) -> int:
        """How many objects an index has under a value."""
        return len(self._indices[index].get(value, ()))

    def _reindex(self, key: Key, obj: Object | None) -> None:
        entries: tuple[tuple[str, str], ...] = ()
        if obj is not None:
            entries = tuple((name, value) for name, function in self._functions.items() for value in function(obj))
        before = self._entries.get(key, ())
        if entries == before:
            return
        for name, value in before:
            bucket = self._indices[name].get(value, {})
            bucket.pop(key, None)
            if not bucket:
                self._indices[name].pop(value, None)
        for name, value in entries:
            self._indices[name].setdefault(value, {})[key] = None
        if entries:
            self._entries[key] = entries
        else:
            self._entries.pop(key, None)
