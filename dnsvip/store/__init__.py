from dnsvip.site.epochs import NodeReport
from dnsvip.store.access.audit import AuditRow
from dnsvip.store.access.tokens import Token
from dnsvip.store.follower import SnapshotFollower
from dnsvip.store.objects.listing import Listing
from dnsvip.store.repository import Store, Stored
from dnsvip.store.secrets.kek import KeyEncryptionKey

__all__ = ["AuditRow", "KeyEncryptionKey", "Listing", "NodeReport", "SnapshotFollower", "Store", "Stored", "Token"]
