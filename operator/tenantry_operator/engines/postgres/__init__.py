"""PostgreSQL 16 and newer, administered without superuser rights."""
