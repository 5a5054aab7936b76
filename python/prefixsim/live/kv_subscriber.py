"""A subscriber of KV events over ZMQ, as vLLM and SGLang publish them.

A message is ``[topic, sequence number, payload]``: 8 bytes big-endian, and the msgpack of a batch
(``vllm/distributed/kv_events.py``). Numbers grow by one; where some are missing the replay socket
is asked for them, and what it does not have is reported as a gap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from prefixsim._extras import require
from prefixsim.errors import InputError

if TYPE_CHECKING:
    import zmq

__all__ = ["KvSubscriber"]

_POLL_MS = 200
_REPLAY_MS = 1000
_END = (1 << 64) - 1  # vLLM ends a replay with the number -1


class KvSubscriber:
    """Receives batches in a thread and hands them on in order.

    Parameters
    ----------
    endpoint : str
        Where the server publishes, like ``tcp://127.0.0.1:5557``; with ``*`` in it, or ``bind:``
        before it, the subscriber binds.
    note : callable
        Given each payload, the msgpack of one batch.
    replay : str, optional
        The server's replay socket.

    Attributes
    ----------
    batches, missed, replayed : int
        Batches that came, those that were lost for good, and those that the replay socket gave.
    """

    def __init__(
        self, endpoint: str, note: Callable[[bytes], None], replay: str | None = None
    ) -> None:
        self._zmq: ModuleType = require("zmq", extra="live")
        self.batches = self.missed = self.replayed = 0
        self._note = note
        self._replay = replay
        self._next: int | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = self._zmq.Context()
        self._socket = self._context.socket(self._zmq.SUB)
        self._socket.setsockopt(self._zmq.RCVHWM, 0)
        self._socket.setsockopt(self._zmq.SUBSCRIBE, b"")
        binds = endpoint.startswith("bind:") or "*" in endpoint
        address = endpoint.removeprefix("bind:")
        try:
            (self._socket.bind if binds else self._socket.connect)(address)
        except self._zmq.ZMQError as error:
            msg = f"--kv-events {endpoint}: {error}"
            raise InputError(msg) from None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kv events", daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and close the sockets."""
        self._done.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _run(self) -> None:
        while not self._done.is_set():
            if self._socket.poll(_POLL_MS):
                self.take(self._socket.recv_multipart())

    def take(self, parts: list[bytes]) -> None:
        """Take one message; ask for those that are missing before it."""
        if len(parts) < 2:
            return
        number, payload = int.from_bytes(parts[-2], "big"), parts[-1]
        if self._next is not None and number > self._next:
            self._fill(self._next, number)
        elif self._next is not None and number < self._next and number != 0:
            return  # came again by the replay socket
        self._hand_on(payload)
        self._next = number + 1

    def _fill(self, first: int, end: int) -> None:
        """Get batches ``first`` to ``end - 1`` from the replay socket, as far as it has them."""
        found: dict[int, bytes] = {}
        if self._replay is not None:
            socket = self._context.socket(self._zmq.DEALER)  # several answers to one question
            socket.setsockopt(self._zmq.LINGER, 0)
            socket.connect(self._replay)
            socket.send_multipart([b"", first.to_bytes(8, "big")])
            while socket.poll(_REPLAY_MS):
                parts = socket.recv_multipart()
                number = int.from_bytes(parts[-2], "big") if len(parts) > 1 else _END
                if number == _END or not parts[-1]:
                    break
                if first <= number < end:
                    found[number] = parts[-1]
                if number >= end - 1:
                    break
            socket.close()
        for number in sorted(found):
            self._hand_on(found[number])
        self.replayed += len(found)
        self.missed += end - first - len(found)

    def _hand_on(self, payload: bytes) -> None:
        self.batches += 1
        self._note(payload)
