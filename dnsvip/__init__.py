"""dnsvip: authoritative DNS that gives each client its own IPv6 address, and the dispatcher that reads it."""

__version__ = "0.2.0"
