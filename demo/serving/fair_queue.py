"""Replace Gradio's queue by a fair one: visitors take turns, and nothing is computed for who has hung up."""

import asyncio
import random
from typing import Any

import gradio as gr
from gradio.queueing import Event, Queue

from cvx.cancellation import stopped_by
from demo.serving.rate_limit import address_of

MAX_PAGES = 500
"""Open pages whose state is kept, a third of a MB each; the one that was used longest ago is dropped."""
MAX_CONCURRENT = 8
"""Visitors whose requests for maps run at the same time; they take turns, map by map."""
MAP_QUEUE: dict[str, Any] = {"concurrency_id": "maps", "concurrency_limit": MAX_CONCURRENT}
"""Queue of requests that are answered map by map."""
AGREEMENT_QUEUE: dict[str, Any] = {"concurrency_id": "agreement", "concurrency_limit": 1}
"""Queue of agreement requests, which may take minutes."""
UNREAD_S = 300.0
"""Seconds for which an answer is kept that nobody fetches; Gradio would keep those of 2,000 visitors, of any size."""


class FairQueue(Queue):
    """A visitor's next question of a kind waits until their last one is answered; whoever hangs up ends the work.

    Their others wait behind what others have asked: who asks for much goes first once more at most, and not with all.
    Gradio itself goes by the order of arrival alone, and computes to the end what nobody will see.
    """

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """Take the next request, if there is room for it."""
        at_work = {(event.concurrency_id, visitor(event)) for job in self.active_jobs for event in job or ()}
        queues = list(self.event_queue_per_concurrency_id.values())
        random.shuffle(queues)  # as Gradio does: no queue is always first
        for queue in queues:
            if queue.concurrency_limit is None or queue.current_concurrency < queue.concurrency_limit:
                free = (event for event in queue.queue if (event.concurrency_id, visitor(event)) not in at_work)
                if (event := next(free, None)) is not None:
                    _take(event, queue.queue)
                    return [event], False, queue.concurrency_id
        return None

    async def process_events(self, events: list[Event], *rest: Any, **more: Any) -> None:
        """Answer a request, as long as somebody waits for it."""

        def raise_if_gone() -> None:
            if self.stopped or not events[0].alive:  # the page is closed, or Gradio has seen the connection close
                raise gr.Error("nobody waits for this any more", print_exception=False)

        try:
            with stopped_by(raise_if_gone):
                await super().process_events(events, *rest, **more)
        except asyncio.CancelledError:
            for event in events:
                event.alive = False  # the thread that works for it is not cancelled: its next part sees this
            raise
        finally:
            for event in events:
                if is_script(event):
                    self._end_session(event)
                # by name: the event itself, with its request and what was asked, need not stay so long
                asyncio.get_running_loop().call_later(UNREAD_S, self._forget, event.session_hash, event._id)

    async def clean_events(self, *, session_hash: str | None = None, event_id: str | None = None) -> None:
        """Let go of who has hung up; Gradio would wait for what is at work for them to be fetched, for ever."""
        await super().clean_events(session_hash=session_hash, event_id=event_id)
        if (waiting := self.pending_event_ids_session.get(session_hash or "")) is not None:
            waiting.difference_update(one._id for job in self.active_jobs for one in job or () if not one.alive)

    def _end_session(self, event: Event) -> None:
        """Drop what Gradio keeps of a page for a visitor who has none: a third of a MB for each question."""
        holder = self.server_app.state_holder if self.server_app else None
        if holder is not None:
            with holder.lock:
                holder.session_data.pop(event.session_hash, None)
                holder.time_last_used.pop(event.session_hash, None)

    def _forget(self, session: str, event_id: str) -> None:
        """Drop an answer that was not fetched, and the entry of a visitor who waits for nothing else."""
        waiting = self.pending_event_ids_session.get(session, set())
        waiting.discard(event_id)
        if not waiting:
            self.pending_messages_per_session.pop(session, None)
            self.pending_event_ids_session.pop(session, None)

    def compute_analytics_summary(self, records: list[Any]) -> dict[str, Any]:
        """Sum up nothing: Gradio would put its last 10,000 events into a table after each, for a page that is off."""
        return {"functions": {}}


def _take(event: Event, queue: list[Event]) -> None:
    """Take a question out of a queue, and put the rest of its visitor's behind all others'."""
    queue.remove(event)
    own = visitor(event)
    queue.sort(key=lambda one: visitor(one) == own)


def visitor(event: Event) -> str:
    """Name who asks: an opened page, or the address of a script, whose questions are each a session of their own."""
    if not is_script(event):
        return event.session_hash
    return address_of(event.request.scope)


def is_script(event: Event) -> bool:
    """Tell whether a question names no session, as a plain HTTP request: it is one of its own, with no page."""
    return event.session_hash == event._id


def use_fair_queue(blocks: gr.Blocks) -> gr.Blocks:
    """Let a page's queue, which must have been made, serve its visitors in turn."""
    blocks._queue.__class__ = FairQueue
    return blocks
