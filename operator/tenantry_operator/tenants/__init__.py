"""Tenants: what they should have, and how they get there."""
