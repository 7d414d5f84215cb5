"""What the operator knows of the cluster."""

from __future__ import annotations

from typing import Any

from tenantry_operator.cache import Store


def obj(name: str, version: int, *, uid: str = "u", **spec: Any) -> dict[str, Any]:
    meta = {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": str(version), "managedFields": []}
    return {"metadata": meta, "spec": spec}


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    store = Store()
    assert store.put(obj("a", 100, x=1))
    assert not store.put(obj("a", 99, x=2))
    assert not store.put(obj("a", 100, x=3))
    assert (store.get(("shop", "a")) or {})["spec"] == {"x": 1}


def test_an_object_created_again_replaces_the_one_before_whatever_its_version() -> None:
    store = Store()
    store.put(obj("a", 100))
    assert store.put(obj("a", 7, uid="v"))
    assert not store.drop(("shop", "a"), "u")
    assert store.drop(("shop", "a"), "v")
    assert len(store) == 0


def test_an_object_that_was_released_is_known_to_be_although_its_version_stays() -> None:
    store = Store(held=lambda o: ("yes",) if o["metadata"].get("finalizers") else ())
    before = obj("a", 100)
    before["metadata"]["finalizers"] = ["tenantry.dev/data"]
    store.put(before)
    store.put_answer(obj("a", 100))
    assert store.find("held", "yes") == []
    assert store.drop(("shop", "a"), "u")


def test_an_answer_is_not_kept_over_a_newer_object_nor_over_a_successor_nor_when_the_object_is_gone() -> None:
    store = Store()
    store.put(obj("a", 101, x=1))
    store.put_answer(obj("a", 100, x=2))
    assert (store.get(("shop", "a")) or {})["spec"] == {"x": 1}
    store.put(obj("a", 102, uid="v", x=3))
    store.put_answer(obj("a", 101, x=2))
    assert (store.get(("shop", "a")) or {})["spec"] == {"x": 3}
    store.drop(("shop", "a"))
    store.put_answer(obj("a", 101, x=2))
    assert store.get(("shop", "a")) is None


def test_indices_follow_changes_and_removal() -> None:
    store = Store(plan=lambda o: (o["spec"]["plan"],) if o["spec"].get("plan") else ())
    store.put(obj("a", 1, plan="pro"))
    store.put(obj("b", 2, plan="pro"))
    assert store.find("plan", "pro") == [("shop", "a"), ("shop", "b")]
    store.put(obj("a", 3, plan="free"))
    assert store.find("plan", "pro") == [("shop", "b")]
    assert store.count("plan", "free") == 1
    store.drop(("shop", "b"))
    assert store.find("plan", "pro") == []
    store.put(obj("a", 4))
    assert store.find("plan", "free") == []


def test_managed_fields_are_not_kept() -> None:
    store = Store()
    store.put(obj("a", 1))
    assert "managedFields" not in (store.get(("shop", "a")) or {})["metadata"]
