from dnsvip.site.epochs import NodeReport
from dnsvip.store.access.audit import AuditRow
from dnsvip.store.access.tokens import Token
from dnsvip.store.following.follower import SnapshotFollower
from dnsvip.store.objects.listing import Listing
from dnsvip.store.objects.objects import Stored
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.store import Store

__all__ = ["AuditRow", "KeyEncryptionKey", "Listing", "NodeReport", "SnapshotFollower", "Store", "Stored", "Token"]
