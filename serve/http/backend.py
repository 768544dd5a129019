"""One replica's share of everything: what the routes need between them."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi.security import HTTPAuthorizationCredentials
from starlette.datastructures import Address

from drsft.rewrite.budget import Allowance
from serve.api import RewriteRequest, RewriteResult
from serve.http.draining import Door
from serve.http.errors import EngineUnavailable, Unauthorised
from serve.http.event_log import EventLogs
from serve.http.idempotency import Replay
from serve.http.loopback import is_loopback
from serve.limits.admission import NO_METER, Admission, Place, Refused, Ticket
from serve.limits.keys import Key, KeyRing
from serve.service import Plan, RewriteService
from serve.settings import ServeConfig
from serve.telemetry import Meter
from serve.watch import Listener

__all__ = ["Backend"]


class Backend:
    """One replica's share of everything: what the routes need between them."""

    def __init__(
        self,
        config: ServeConfig,
        service: RewriteService,
        *,
        num_pending: Callable[[], Awaitable[int]],
        model_fingerprint: str,
        meter: Meter = NO_METER,
    ) -> None:
        self.config, self.service = config, service
        self.num_pending = num_pending  # of an engine; raises EngineUnavailable when none answers
        self.model_fingerprint = model_fingerprint
        access, limits = config.access, config.limits
        self.keys = None if access.keys_file is None else KeyRing(access.keys_path, access)
        self.anyone = Key(
            name="anyone",
            digest=b"",
            requests_per_minute=access.requests_per_minute,
            tokens_per_minute=access.tokens_per_minute,
        )
        self.meter = meter
        self.door = Door()
        self.admission = Admission(
            limits.tokens_in_flight,
            most_waiting=limits.batch_problems,
            longest_s=limits.deadline_s,
            meter=meter,
        )
        self.replay = Replay(
            max_entries=limits.remembered_results,
            max_bytes=limits.remembered_mib << 20,
            keep_s=limits.remembered_s,
        )
        self.streams = EventLogs(keep_s=limits.resumable_s)
        self.tasks: set[asyncio.Task[Any]] = set()

    def caller(self, credentials: HTTPAuthorizationCredentials | None, client: Address | None) -> Key:
        if self.keys is None:
            if client is None or not is_loopback(client.host):
                raise Unauthorised
            return self.anyone
        key = self.keys.find(credentials.credentials) if credentials else None
        if key is None:
            raise Unauthorised
        return key

    async def rewrite(
        self,
        key: Key,
        request: RewriteRequest,
        request_id: str,
        *,
        idempotency_key: str | None = None,
        listener: Listener | None = None,
        place: Place | None = None,
    ) -> RewriteResult:
        """Checked, admitted, within its deadline. Raises what `problem_of` turns into an answer.

        Where the service is full it is refused at once, unless it has a `place` to wait in: then at its
        deadline.
        """
        plan = self.service.plan(request)
        until_s = asyncio.get_running_loop().time() + plan.deadline_s

        async def work() -> RewriteResult:
            sample = partial(self._sample, plan, until_s, request_id, listener)
            if place is None:
                with self.admission.admit(key, plan.estimated_tokens) as ticket:
                    return await sample(ticket)
            admitted = self.admission.admit_in_turn(key, plan.estimated_tokens, place=place, until_s=until_s)
            async with admitted as ticket:
                return await sample(ticket)

        with self.admission.counted(key):
            result, is_repeated = await self.replay.run(
                key.name, request, idempotency_key, work, until_s=until_s
            )
        return result.model_copy(update={"id": request_id}) if is_repeated else result

    async def _sample(
        self, plan: Plan, until_s: float, request_id: str, listener: Listener | None, ticket: Ticket
    ) -> RewriteResult:
        spent = Allowance(None)
        try:
            result = await self._in_time(plan, until_s, request_id, listener, spent)
        except (Refused, EngineUnavailable):  # nothing was sampled since
            ticket.used = spent.num_spent
            raise
        except BaseException:
            ticket.used = max(ticket.used, spent.num_spent)
            raise
        ticket.used = plan.used_tokens(result)
        return result

    async def _in_time(
        self, plan: Plan, until_s: float, request_id: str, listener: Listener | None, spent: Allowance
    ) -> RewriteResult:
        try:
            async with asyncio.timeout_at(until_s):
                return await self.service.rewrite(
                    plan, request_id=request_id, listener=listener, allowance=spent
                )
        except TimeoutError:
            await self.num_pending()  # without an engine it was not the request that took too long
            raise
