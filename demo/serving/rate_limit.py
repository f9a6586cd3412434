"""Limit what one visitor may ask of a public page: requests a minute, requests that wait, sizes."""

import dataclasses
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from cvx.store.checkpoint import Card

MAX_UPLOAD = "64mb"
MAX_UPLOAD_PIXELS = 50_000_000
"""Of an uploaded picture, refused before it is decoded: decoding takes up to 8 bytes a pixel."""
MAX_SIDE = 1024
"""Pixels of the side of what a model looks at: the memory of one map grows with the square of it."""
MAX_QUEUE = 400
"""Requests that wait at once, of all visitors; the next are told that the page is busy."""
MAX_WAITING = 24
"""Requests of one visitor that wait at once, where there is a limit; opening the page makes about ten."""
BURST = 40
"""Requests that a visitor may make without a pause, where there is a limit."""
MAX_DRAINED = 1_000_000
"""Bytes of a refused request that are read before it is answered."""
MAX_KNOWN = 10_000
"""Visitors that are remembered."""
ASKING = ("/queue/join", "/call/", "/run/", "/api/", "/upload", "/component_server", "/mcp")
"""Parts of the paths of requests that make the server compute."""


@dataclasses.dataclass
class Bucket:
    """A token bucket: the requests that a visitor has left, refilled as time passes."""

    tokens: float
    filled: float

    def take(self, now: float, per_minute: float, size: float) -> float:
        """Take one request; return 0, or the seconds until there is one to take."""
        self.tokens = min(size, self.tokens + (now - self.filled) * per_minute / 60)
        self.filled = now
        if self.tokens < 1:
            return (1 - self.tokens) * 60 / per_minute
        self.tokens -= 1
        return 0.0


class Buckets:
    """One bucket a visitor; those who were not seen for longest are forgotten first, and have a full one again."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self._per_minute, self._size, self._clock = per_minute, float(min(BURST, per_minute)), clock
        self._known: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def take(self, visitor: str) -> float:
        """Take one request of a visitor's; return 0, or the seconds until the next is allowed."""
        now = self._clock()
        bucket = self._known.setdefault(visitor, Bucket(self._size, now))
        self._known.move_to_end(visitor)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return bucket.take(now, self._per_minute, self._size)


class RateLimitMiddleware:
    """Answers 429 with a reason to visitors who ask too often or have too much waiting; others do not notice."""

    def __init__(self, app: ASGIApp, per_minute: int):
        self._app, self._per_minute, self._buckets = app, per_minute, Buckets(per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refused = self._refuse(scope) if _asks(scope) else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        await drain_request(receive)
        reason, seconds = refused
        headers = {"Retry-After": str(math.ceil(seconds))}
        await JSONResponse({"detail": reason}, status_code=429, headers=headers)(scope, receive, send)

    def _refuse(self, scope: Scope) -> tuple[str, float] | None:
        visitor = address_of(scope)
        if seconds := self._buckets.take(visitor):
            allowed = f"{self._per_minute} requests a minute are allowed from one address"
            return f"That was too fast: {allowed}. Try again in {math.ceil(seconds)} s.", seconds
        if waiting(scope, visitor) >= MAX_WAITING:
            return f"{MAX_WAITING} of your requests are still waiting. Try again when some are answered.", 5.0
        return None


async def drain_request(receive: Receive) -> None:
    """Drain the body, up to a limit, so that the client reads the 429."""
    num_bytes = 0
    more = True
    while more and num_bytes < MAX_DRAINED:
        message = await receive()
        num_bytes += len(message.get("body", b""))
        more = message.get("more_body", False)


def _asks(scope: Scope) -> bool:
    return bool(scope["type"] == "http" and scope["method"] == "POST" and any(part in scope["path"] for part in ASKING))


def address_of(scope: Scope) -> str:
    """Return the address that a request came from."""
    return str((scope.get("client") or ("",))[0])


def waiting(scope: Scope, visitor: str) -> int:
    """Count a visitor's requests in Gradio's queue."""
    blocks = getattr(scope.get("app"), "blocks", None)
    if blocks is None:
        return 0
    queues = blocks._queue.event_queue_per_concurrency_id.values()
    return sum(address_of(event.request.scope) == visitor for queue in queues for event in queue.queue)


def settings(per_minute: int) -> dict[str, Any]:
    """Return the settings of `gr.Blocks.launch` for a limit; 0 sets none.

    Raises:
        ValueError: If the limit is too low to open the page with.
    """
    if per_minute and per_minute < MAX_WAITING:
        raise ValueError(
            f"--limit must be 0 (none) or at least {MAX_WAITING} requests a minute, got {per_minute}:"
            " opening the page alone makes about ten"
        )
    app = {"middleware": [Middleware(RateLimitMiddleware, per_minute=per_minute)]} if per_minute else {}
    return {"max_file_size": MAX_UPLOAD, "app_kwargs": app}


def check_picture(width: int, height: int) -> None:
    """Refuse an upload that would take too much memory.

    Raises:
        ValueError: If it has too many pixels.
    """
    if width * height > MAX_UPLOAD_PIXELS:
        raise ValueError(
            f"the upload has {width} × {height} pixels; at most {MAX_UPLOAD_PIXELS:,} are looked at: make it smaller"
        )


def check_card(card: "Card") -> None:
    """Refuse a model that looks at pictures too large for a page that many people share.

    Raises:
        ValueError: If its card says so.
    """
    if card.image_size > MAX_SIDE:
        raise ValueError(
            f"{card.name} looks at {card.image_size} × {card.image_size} pixels; the demo shows models of up to"
            f" {MAX_SIDE} × {MAX_SIDE}: `python -m cvx attribute` draws its maps"
        )
