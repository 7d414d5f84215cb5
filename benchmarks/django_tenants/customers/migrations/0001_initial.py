"""The tables of tenants and domains."""

import django.db.models.deletion
from django.db import migrations, models
from django_tenants.postgresql_backend.base import _check_schema_name


def key() -> models.BigAutoField:
    """The key that Django adds to a model without one."""
    return models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    """Client and Domain."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            "Client",
            [
                ("id", key()),
                (
                    "schema_name",
                    models.CharField(db_index=True, max_length=63, unique=True, validators=[_check_schema_name]),
                ),
                ("name", models.CharField(max_length=100)),
            ],
            {"abstract": False},
        ),
        migrations.CreateModel(
            "Domain",
            [
                ("id", key()),
                ("domain", models.CharField(db_index=True, max_length=253, unique=True)),
                ("is_primary", models.BooleanField(db_index=True, default=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="domains", to="customers.client"
                    ),
                ),
            ],
            {"abstract": False},
        ),
    )
