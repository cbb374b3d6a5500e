from dnsvip.epochs import NodeReport
from dnsvip.store.audit import AuditRow
from dnsvip.store.feed import Feed
from dnsvip.store.listing import Listing
from dnsvip.store.people import Token
from dnsvip.store.repository import Store, Stored
from dnsvip.store.secrets import KeyEncryptionKey

__all__ = ["AuditRow", "Feed", "KeyEncryptionKey", "Listing", "NodeReport", "Store", "Stored", "Token"]
