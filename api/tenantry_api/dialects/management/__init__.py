"""The contract of tenant management, version 1."""
