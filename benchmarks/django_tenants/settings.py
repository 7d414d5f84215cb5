"""Settings of a project that does nothing but have tenants. Where the database is, libpq's variables say."""

import os

SECRET_KEY = "unused: nothing is served"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The backend imports contenttypes; auth and admin would only add to what every migration looks at.
SHARED_APPS = ["django_tenants", "django.contrib.contenttypes", "customers"]
TENANT_APPS = ["items"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
TENANT_MODEL = "customers.Client"
TENANT_DOMAIN_MODEL = "customers.Domain"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
# Among many thousands of tables PostgreSQL looks for a schema's with several processes. Each begins with empty
# caches, and all together take longer than one.
SERIAL = "-c max_parallel_workers_per_gather=0"
# migrate_schemas closes its connection after every schema; a pool keeps it open.
POOL = {"pool": {"min_size": 1, "max_size": 1}} if os.environ.get("BENCHMARK_POOL") else {}
DATABASES = {
    "default": {
        "ENGINE": "django_tenants.postgresql_backend",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "NAME": os.environ["PGDATABASE"],
        "OPTIONS": {"sslmode": "disable", "options": SERIAL, **POOL},
    }
}

# One SET search_path for a change of schema rather than for every statement.
TENANT_LIMIT_SET_CALLS = True
TENANT_MULTIPROCESSING_MAX_PROCESSES = int(os.environ.get("BENCHMARK_PROCESSES", "2"))
TENANT_MULTIPROCESSING_CHUNKS = int(os.environ.get("BENCHMARK_CHUNKS", "2"))
