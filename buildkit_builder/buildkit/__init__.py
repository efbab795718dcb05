"""A BuildKit client for Python: it imports nothing of this package but itself and `errors`."""
