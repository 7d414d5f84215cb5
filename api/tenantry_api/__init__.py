"""The REST facade. So far it answers its health check; the dialects are mounted on this app."""
