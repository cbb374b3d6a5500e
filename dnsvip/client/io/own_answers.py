"""The stub's own answers: what the enrolment's servers say, with proven addresses, and tickets for the plain VIP."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from ipaddress import IPv6Address

import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from dnsvip.client.io.agent import Agent
from dnsvip.client.io.exchange import Silent
from dnsvip.client.io.lookup import Issued, canonical
from dnsvip.client.io.system import Unreachable
from dnsvip.client.outline import Outline
from dnsvip.client.proof import Why
from dnsvip.client.records import WITH_ADDRESSES, addresses_in, rewritten, without_hint
from dnsvip.errors import ClientError


class OwnAnswers:
    """Answers as one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def covers(self, query: Outline) -> bool:
        """Whether a query is for the enrolment's servers."""
        enrolment = self._agent.enrolment
        if enrolment is None or query.opcode != dns.opcode.QUERY or not query.questions:
            return False
        question = query.questions[0]
        return question.rdclass == dns.rdataclass.IN and enrolment.covers(name_of(question.name))

    async def of(self, query: dns.message.Message) -> dns.message.Message | None:
        """The enrolled servers' answer with proven addresses; None where the upstream is responsible. Raises Silent
        where none may be asked in plain text."""
        question = query.question[0]
        service = name_of(question.name) in self._agent.services
        answer = dns.message.make_response(query, recursion_available=True)
        try:
            response = await self._agent.ask(name_of(question.name), dns.rdatatype.to_text(question.rdtype))
            is_final = response.rcode() != dns.rcode.NOERROR or any(
                r.rdtype == question.rdtype for r in response.answer
            )
            is_final |= not response.answer and any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)
            if not service and not is_final:
                return None  # a delegation, or an alias that leads out of our zones
            answer.set_rcode(response.rcode())
            try:
                ticket = await self._ticket(name_of(question.name), response)
                answer.answer = [self._proven(rrset, ticket) for rrset in response.answer]
            except Unreachable:
                answer.answer = await self._without_ipv6(name_of(question.name), response)
            answer.authority = [rrset for rrset in response.authority if rrset.rdtype == dns.rdatatype.SOA]
        except (ClientError, OSError) as error:
            if not service:
                if isinstance(error, Silent):
                    raise
                return None
            answer.set_rcode(dns.rcode.SERVFAIL)
            answer.answer.clear()
            with suppress(ClientError):
                await self._by_ticket_alone(answer)
        return answer

    async def _ticket(self, name: str, response: dns.message.Message) -> Issued | None:
        """The ticket that stands in for the plain VIP, where an answer has that."""
        enrolment = self._agent.enrolment
        plain = {str(cluster.plain) for cluster in enrolment.clusters} if enrolment else set()
        told = [address for rrset in response.answer for rdata in rrset for address in addresses_in(rdata)]
        return await self._agent.ticket_for(name) if plain.intersection(told) else None

    async def _by_ticket_alone(self, answer: dns.message.Message) -> None:
        """Where the enrolment's servers are silent and another resolver tells the plain VIP: the ticket, proven, and
        nothing of the other types of address."""
        question = answer.question[0]
        if question.rdtype not in WITH_ADDRESSES:
            return
        ticket = await self._agent.elsewhere(name_of(question.name))
        if ticket is None:
            return
        if question.rdtype == dns.rdatatype.AAAA:
            ttl = max(0, math.floor(ticket.expires - time.time()))
            rrset = dns.rrset.from_text(question.name, ttl, "IN", "AAAA", str(ticket.address))
            answer.answer = [self._proven(rrset, None)]
        answer.set_rcode(dns.rcode.NOERROR)

    async def _without_ipv6(self, name: str, response: dns.message.Message) -> list[dns.rrset.RRset]:
        """The answer without addresses that this host cannot reach, where A has one that it can; else ClientError."""
        ipv4 = await self._agent.ask(name, "A")
        if not any(rrset.rdtype == dns.rdatatype.A for rrset in ipv4.answer):
            raise ClientError(f"{name}: this host cannot reach its IPv6 address, and it has no other")
        kept = [rrset for rrset in response.answer if rrset.rdtype != dns.rdatatype.AAAA]
        return [
            dns.rrset.from_rdata_list(rrset.name, rrset.ttl, [without_hint(rdata) for rdata in rrset]) for rrset in kept
        ]

    def _proven(self, rrset: dns.rrset.RRset, ticket: Issued | None) -> dns.rrset.RRset:
        """The same records with every cluster address proven, and the ticket in place of the plain VIP; the TTL ends
        with the proofs."""
        until: list[float] = []
        records = [rewritten(rdata, lambda issued: self._prove(issued, until, ticket)) for rdata in rrset]
        ttl = rrset.ttl
        if until:
            ttl = max(0, min(ttl, math.floor(min(until) - time.time())))
        return dns.rrset.from_rdata_list(rrset.name, 0 if self._agent.proves_per_connection and until else ttl, records)

    def _prove(self, issued: str, until: list[float], ticket: Issued | None) -> str:
        proven = self._agent.prove(IPv6Address(issued))
        if proven.why is Why.PLAIN and ticket is not None:
            proven = self._agent.prove(ticket.address)
        if proven.why is Why.USED_UP:
            raise ClientError(f"{issued}: {proven.why}")
        if proven.valid_until is not None:
            until.append(proven.valid_until)
        return str(proven.address)


def name_of(name: dns.name.Name) -> str:
    """A name as the enrolment writes it."""
    return canonical(name.to_text())
