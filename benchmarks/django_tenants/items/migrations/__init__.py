"""Five tables each."""

from django.db import migrations

from items.tables import constraints, fields


def create(first: int, last: int) -> tuple[migrations.CreateModel, ...]:
    """Makes the tables ``first`` to ``last``."""
    return tuple(
        migrations.CreateModel(
            f"Item{number}",
            list(fields(number).items()),
            {"constraints": constraints(number)},
        )
        for number in range(first, last + 1)
    )
