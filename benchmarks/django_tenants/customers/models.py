"""A tenant and its domain, as django-tenants wants them."""

from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin):
    """A tenant."""

    name = models.CharField(max_length=100)


class Domain(DomainMixin):
    """A tenant's domain."""
