"""The control channel of a WebRTC session: the messages of the WebSocket's protocol, without its sound and pictures.

`ready` stands in the answer to the offer; `change`, `interrupt`, `end` and `ping` come over the channel, `state` goes
back once a second.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from vasa_jax.arrays import SAMPLE_RATE
from vasa_jax.errors import UserError, reason
from vasa_jax.serve.protocol import Change, End, Interrupt, Ping, Start, parse, say

REPORTS = 1.0
"""Seconds between two messages of `state`."""


def control(peer: Any) -> Callable[[str], list[str]]:
    """What a peer's messages are given to: one in, its answers out."""

    def handle(text: str) -> list[str]:
        try:
            return [json.dumps(answer) for answer in _do(peer.session, parse(text))]
        except UserError as error:
            return [json.dumps(say("error", message=reason(error), fatal=False))]

    return handle


def _do(session: Any, message: Any) -> list[dict[str, Any]]:
    if isinstance(message, Ping):
        return [say("pong", id=message.id)]
    if isinstance(message, Start):
        raise UserError("the session has started; send another offer for another")
    if isinstance(message, Change):
        session.change(ease=message.ease, **message.controls)
    elif isinstance(message, Interrupt):
        session.interrupt()
    elif isinstance(message, End):
        session.say_no_more()
    return []


async def tell(peer: Any) -> None:
    """Sends `state` until the peer has gone."""
    while not peer.closed.is_set():
        counts, waiting = peer.counts, round(peer.session.waiting / SAMPLE_RATE, 2)
        state = say("state", late=counts["late"], dropped=counts["skipped"], waiting=waiting, latency=peer.latency)
        peer.send(json.dumps(state))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(peer.closed.wait(), REPORTS)
