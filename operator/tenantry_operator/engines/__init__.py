"""Database engines: one package each, behind the narrow protocol of :mod:`.base`."""
