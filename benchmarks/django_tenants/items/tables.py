"""One table as the models and the migrations have it: see ``wide_migrations`` in benchmarks/workload.py."""

from typing import Any

from django.db import models
from django.db.models.functions import Now

TABLES = 20


def fields(number: int) -> dict[str, Any]:
    """The columns of table ``number``, counted from 1."""
    found: dict[str, Any] = {"id": models.BigAutoField(primary_key=True, serialize=False)}
    if number > 1:
        found["parent"] = models.ForeignKey(f"items.Item{number - 1}", models.CASCADE)
    found["name"] = models.TextField()
    found["price"] = models.DecimalField(max_digits=12, decimal_places=2, db_default=0)
    found["attributes"] = models.JSONField(default=dict)
    found["created_at"] = models.DateTimeField(db_default=Now())
    return found


def constraints(number: int) -> list[models.CheckConstraint]:
    """The checks of table ``number``."""
    return [
        models.CheckConstraint(condition=~models.Q(name=""), name=f"item{number}_name"),
        models.CheckConstraint(condition=models.Q(price__gte=0), name=f"item{number}_price"),
    ]
