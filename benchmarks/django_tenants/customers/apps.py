"""Takes down which schemas migrate_schemas has been to."""

import os

from django.apps import AppConfig


def visited(*, schema_name: str, **_: object) -> None:
    """Adds a schema to the file that ``BENCHMARK_VISITED`` names."""
    file = os.environ.get("BENCHMARK_VISITED")
    if file:
        # Opened for appending and written at once: the processes of the executor share it.
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{schema_name}\n".encode())
        os.close(descriptor)


class CustomersConfig(AppConfig):
    """The shared app."""

    name = "customers"

    def ready(self) -> None:
        """Connects the signal."""
        from django_tenants.signals import schema_migrated  # noqa: PLC0415

        schema_migrated.connect(visited)
