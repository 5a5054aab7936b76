"""Chat data, read as a stream of conversations.

One module per source format; :class:`ChatReader` finds the format, reads the file without ever
holding it whole, and counts everything it drops or repairs.
"""

from __future__ import annotations

from prefixsim.chat.model import ROLES, Conversation, Message, Role
from prefixsim.chat.reader import FORMATS, ChatFormat, ChatReader

__all__ = ["FORMATS", "ROLES", "ChatFormat", "ChatReader", "Conversation", "Message", "Role"]
