"""Keeps the servers of an agent's enrolment up to date while a program runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dnsvip.client.io.agent import Agent
from dnsvip.errors import ClientError

EVERY = 300.0
"""Seconds between two looks."""


@asynccontextmanager
async def renewing(agent: Agent, warn: Callable[[str], None], every: float = EVERY) -> AsyncIterator[None]:
    """Renew the agent's enrolment now and then while the context lasts. What fails is said by `warn`, once until it is
    something else. Its connections to DNS servers are closed at the end."""
    task = asyncio.create_task(_renew(agent, warn, every))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        agent.close()


async def _renew(agent: Agent, warn: Callable[[str], None], every: float) -> None:
    said = ""
    while True:
        try:
            await agent.renew()
            said = ""
        except ClientError as error:
            if str(error) != said:
                said = str(error)
                warn(f"the enrolment cannot be renewed: {said}")
        await asyncio.sleep(every)
