"""The state that the routes of one ingress replica share, and the steps of a request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi.security import HTTPAuthorizationCredentials
from starlette.datastructures import Address

from drsft.rewrite.budget import TokenBudget
from serve.api import RewriteRequest, RewriteResult
from serve.http.draining import DrainGate
from serve.http.errors import EngineUnavailable, Unauthorised
from serve.http.event_log import EventLogs
from serve.http.idempotency import ResultCache
from serve.http.loopback import is_loopback
from serve.limits.admission import NO_METRICS, Admission, QueueSlot, Rejected, Ticket
from serve.limits.keys import Key, KeyRing
from serve.request_events import Listener
from serve.service import Plan, RewriteService
from serve.service_metrics import ServiceMetrics
from serve.settings import ServeConfig

__all__ = ["Backend"]


class Backend:
    """The shared state of one ingress replica: keys, admission, results, streams, and the service itself."""

    def __init__(
        self,
        config: ServeConfig,
        service: RewriteService,
        *,
        num_pending: Callable[[], Awaitable[int]],
        model_fingerprint: str,
        metrics: ServiceMetrics = NO_METRICS,
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
        self.metrics = metrics
        self.gate = DrainGate()
        self.admission = Admission(
            limits.tokens_in_flight,
            most_waiting=limits.batch_problems,
            longest_s=limits.deadline_s,
            metrics=metrics,
        )
        self.results = ResultCache(
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
        slot: QueueSlot | None = None,
    ) -> RewriteResult:
        """Checks, admits and runs a request within its deadline, and returns the result.

        If the service is full, the request is rejected at once; with a queue `slot` it waits for capacity
        until its deadline. Raises errors that `error_document` can convert.
        """
        plan = self.service.plan(request)
        until_s = asyncio.get_running_loop().time() + plan.deadline_s

        async def sample() -> RewriteResult:
            async with self._admitted(key, plan, slot, until_s) as ticket:
                return await self._charged(ticket, plan, until_s, request_id, listener)

        with self.admission.counted(key):
            result, is_repeated = await self.results.run(
                key.name, request, idempotency_key, sample, until_s=until_s
            )
        return result.model_copy(update={"id": request_id}) if is_repeated else result

    @asynccontextmanager
    async def _admitted(
        self, key: Key, plan: Plan, slot: QueueSlot | None, until_s: float
    ) -> AsyncIterator[Ticket]:
        if slot is None:
            with self.admission.admit(key, plan.estimated_tokens) as ticket:
                yield ticket
        else:
            waiting = self.admission.admit_in_turn(key, plan.estimated_tokens, slot=slot, until_s=until_s)
            async with waiting as ticket:
                yield ticket

    async def _charged(
        self, ticket: Ticket, plan: Plan, until_s: float, request_id: str, listener: Listener | None
    ) -> RewriteResult:
        """Returns the plan's result; records in the ticket how many tokens it used, even if it fails or is
        cancelled.
        """
        spent = TokenBudget(None)
        try:
            result = await self._before_deadline(plan, until_s, request_id, listener, spent)
        except (Rejected, EngineUnavailable):  # these sampled no tokens beyond the counted ones
            ticket.used = spent.num_spent
            raise
        except BaseException:
            ticket.used = max(ticket.used, spent.num_spent)
            raise
        ticket.used = plan.used_tokens(result)
        return result

    async def _before_deadline(
        self, plan: Plan, until_s: float, request_id: str, listener: Listener | None, spent: TokenBudget
    ) -> RewriteResult:
        try:
            async with asyncio.timeout_at(until_s):
                return await self.service.rewrite(
                    plan, request_id=request_id, listener=listener, budget=spent
                )
        except TimeoutError:
            await (
                self.num_pending()
            )  # raises EngineUnavailable: without an engine the request was not too slow
            raise
