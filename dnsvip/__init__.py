"""dnsvip: DNS answers that carry the client, and a dispatcher that reads them off the first packet."""

__version__ = "0.1.0"
