"""The twenty models."""

from django.db import models

from items.tables import TABLES, constraints, fields


def _model(number: int) -> type[models.Model]:
    meta = type("Meta", (), {"constraints": constraints(number)})
    return type(f"Item{number}", (models.Model,), {**fields(number), "Meta": meta, "__module__": __name__})


for _number in range(1, TABLES + 1):
    globals()[f"Item{_number}"] = _model(_number)
