"""Events reach every listener, in order, from any thread."""

import asyncio
import threading

import pytest

from firmware_host.serve import events
from firmware_host.serve.events import Hub
from firmware_host.serve.refusals import RefusedError


async def taken(stream, count):
    return [await asyncio.wait_for(stream.__anext__(), 60) for _ in range(count)]


def test_every_event_comes_once_and_in_order(monkeypatch):
    monkeypatch.setattr(events, "BACKLOG", 10_000)

    async def listen():
        hub = Hub()
        streams = [hub.listen() for _ in range(3)]
        begun = [await taken(stream, 1) for stream in streams]
        waiting = [asyncio.ensure_future(taken(stream, 2000)) for stream in streams]
        teller = threading.Thread(target=lambda: [hub.publish("n", {"n": n}) for n in range(2000)])
        teller.start()
        heard = await asyncio.gather(*waiting)
        teller.join()
        return begun, heard

    begun, told = asyncio.run(listen())
    assert begun == [[": listening\n\n"]] * 3
    for heard in told:
        assert heard == [f'event: n\ndata: {{"n": {n}}}\n\n' for n in range(2000)]


def test_a_slow_listener_loses_the_oldest_and_too_many_are_refused(monkeypatch):
    monkeypatch.setattr(events, "BACKLOG", 5)
    monkeypatch.setattr(events, "LISTENERS", 2)

    async def listen():
        hub = Hub()
        slow, other = hub.listen(), hub.listen()
        await taken(slow, 1)
        await taken(other, 1)
        with pytest.raises(RefusedError, match="2 listen already"):
            hub.listen()
        for n in range(9):
            hub.publish("n", {"n": n})
        heard = await taken(slow, 5)
        hub.close()
        return heard, [late async for late in slow]

    heard, late = asyncio.run(listen())
    assert [message.strip()[-2] for message in heard] == ["4", "5", "6", "7", "8"]
    assert late == []


def test_a_listener_without_news_hears_that_the_server_is_there(monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.01)

    async def listen():
        return await taken(Hub().listen(), 3)

    assert asyncio.run(listen())[1:] == [": still here\n\n"] * 2
