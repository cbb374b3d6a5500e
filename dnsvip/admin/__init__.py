"""The HTTP API: everything that the site file can do, one object at a time, and what only runs (README.md)."""
