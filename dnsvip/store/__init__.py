from dnsvip.site.epochs import NodeReport
from dnsvip.store.audit import AuditRow
from dnsvip.store.follower import SnapshotFollower
from dnsvip.store.listing import Listing
from dnsvip.store.people import Token
from dnsvip.store.repository import Store, Stored
from dnsvip.store.secrets import KeyEncryptionKey

__all__ = ["AuditRow", "KeyEncryptionKey", "Listing", "NodeReport", "SnapshotFollower", "Store", "Stored", "Token"]
