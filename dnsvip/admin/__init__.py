"""The HTTP API: all that the site file can do, one object at a time, and operations of the running site (README.md)."""
