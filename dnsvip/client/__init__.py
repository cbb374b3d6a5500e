"""The client's side: `Agent` resolves, proves and connects; see README.md."""

from __future__ import annotations

from dnsvip.client.enrolment import Enrolment
from dnsvip.client.io.agent import Agent, Resolved
from dnsvip.client.modifier import Why

__all__ = ["Agent", "Enrolment", "Resolved", "Why"]
