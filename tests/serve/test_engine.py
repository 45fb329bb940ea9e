"""The engine by the tick, without its clock; and once with it."""

import queue
import threading

import numpy as np
import pytest

from vasa_jax.errors import UserError
from vasa_jax.inference.stream import Stream
from vasa_jax.serve.engine import MOST_WAITING, SPARE, Busy, Engine

SOUND = np.random.default_rng(1).uniform(-0.3, 0.3, 16000).astype(np.float32)
QUICK = {"steps": 2}
HOP = 2


class Seen(list):
    """Deliveries."""

    def sound(self) -> np.ndarray:
        return np.concatenate([delivery.chunk.sound for delivery in self])


@pytest.fixture
def engine(model) -> Engine:
    return Engine(model, hop=HOP, most=3)


def opened(engine, sitting, **how):
    seen = Seen()
    return engine.open(sitting, seen.append, **QUICK | how), seen


def test_sessions_tick_together_and_silence_stands_for_what_has_not_come(engine, sitting):
    engine._together = 2
    (speaking, spoken), (_, silent) = opened(engine, sitting, microphone=False), opened(engine, sitting)
    speaking.push(SOUND[:3000])
    speaking.say_no_more()
    for n in range(4):
        engine._tick(float(n))
    assert [delivery.chunk.first for delivery in spoken] == [0, 2, 4, 6]
    np.testing.assert_array_equal(spoken.sound(), np.pad(SOUND[:3000], (0, 4 * 1280 - 3000)))
    assert not silent.sound().any() and all(delivery.arrived is None for delivery in silent)
    came = [delivery.arrived for delivery in spoken]
    assert came[0] == came[1] == came[2] is not None and came[3] is None
    assert speaking.waiting == 0 and [delivery.due for delivery in silent] == [0, 1, 2, 3]


def test_every_session_has_a_mark_of_its_own_and_the_notice_where_the_engine_says_so(model, sitting):
    plain, noticed = Engine(model, hop=HOP), Engine(model, hop=HOP, badge=True)
    streams = [opened(engine, sitting)[0].stream for engine in (plain, plain, noticed, noticed)]
    assert len({stream.mark for stream in streams}) == 4
    assert [stream.badge for stream in streams] == [False, False, True, True]
    session, seen = opened(noticed, sitting)
    assert int(session.tags.identity, 16) == session.stream.mark
    noticed._tick(0.0)
    (delivery,) = seen
    assert np.abs(delivery.chunk.frames[0, 2, 2].astype(int) - (16, 16, 24)).max() < 100


def test_frames_are_late_by_their_own_time(engine, sitting, monkeypatch):
    session, seen = opened(engine, sitting)
    monkeypatch.setattr("vasa_jax.serve.engine.time.monotonic", lambda: 10.03)
    engine._tick(11.0)
    assert session.late == 0
    engine._tick(10.0)
    assert session.late == 1 == seen[-1].late  # the second frame shows at 10.04


def test_a_microphone_keeps_a_little_back_and_never_falls_behind(engine, sitting):
    session, seen = opened(engine, sitting)
    session.push(SOUND[:1200])
    engine._tick(0.0)
    np.testing.assert_array_equal(seen.sound(), np.pad(SOUND[: 1200 - SPARE], (1280 - 1200 + SPARE, 0)))
    session.push(SOUND)
    engine._tick(1.0)
    waiting = MOST_WAITING + HOP * 640
    np.testing.assert_array_equal(seen[-1].chunk.sound, SOUND[-waiting:][:1280])
    assert session.waiting == waiting - 1280


def test_speech_of_an_agent_waits_for_a_hop_unless_it_is_whole(engine, sitting):
    session, seen = opened(engine, sitting, microphone=False)
    engine._tick(0.0)
    session.push(SOUND[:500])
    engine._tick(1.0)
    assert not seen.sound().any() and session.waiting == 500
    session.say_no_more()
    engine._tick(2.0)
    np.testing.assert_array_equal(seen[-1].chunk.sound[-500:], SOUND[:500])


def test_interrupt_and_change_keep_their_order_with_sound(engine, sitting):
    session, seen = opened(engine, sitting, microphone=False)
    session.push(SOUND[:5000])
    session.interrupt()
    session.push(SOUND[5000:9000])
    session.change(gaze="left")
    engine._tick(0.0)
    np.testing.assert_array_equal(seen.sound(), SOUND[5000:6280])
    for wishes, said in (({"gaze": "round"}, "unknown"), ({"ease": -1.0}, "ease"), ({"mouth": 9.0}, "mouth 9")):
        with pytest.raises(UserError, match=said):
            session.change(**wishes)
    for sound, said in ((np.full(3, np.nan), "NaN"), (np.zeros((2, 2)), "mono"), (np.zeros(16000 * 601), "wait")):
        with pytest.raises(UserError, match=said):
            session.push(sound)


def test_there_are_so_many_places_and_no_more(engine, sitting):
    first, _ = opened(engine, sitting)
    opened(engine, sitting), opened(engine, sitting)
    with pytest.raises(Busy, match="all 3 places are taken") as busy:
        opened(engine, sitting)
    assert busy.value.retry_after > 0 and engine.sessions == 3
    first.close()
    assert engine.sessions == 2
    opened(engine, sitting)
    with pytest.raises(UserError, match="has ended: closed"):
        first.push(SOUND)


def test_a_wish_that_cannot_be_takes_no_place(engine, sitting):
    for _ in range(4):
        with pytest.raises(UserError, match="unknown"):
            opened(engine, sitting, gaze="round")
    assert engine.sessions == 0


def test_idle_sessions_end_but_not_while_they_speak(engine, sitting):
    engine.idle = 50.0
    silent, seen = opened(engine, sitting)
    speaking, _ = opened(engine, sitting, microphone=False)
    speaking.push(SOUND)
    for session in (silent, speaking):
        session.touched -= 100
    engine._tick(0.0)
    assert silent.closed and silent.reason == "idle" and not seen and not speaking.closed


def test_a_failure_is_its_owners_alone(engine, sitting, monkeypatch, caplog):
    engine._together = 2
    broken, _ = opened(engine, sitting)
    whole, seen = opened(engine, sitting)
    placed = Stream._placed

    def failing(self, *arguments):
        if self is broken.stream:
            raise RuntimeError("lost")
        return placed(self, *arguments)

    monkeypatch.setattr(Stream, "_placed", failing)
    engine._tick(0.0)
    assert broken.closed and "its log" in broken.reason and "lost" in caplog.text
    assert len(seen) == 1 and not whole.closed

    def refuse(delivery):
        raise UserError("the client has gone")

    leaving = engine.open(sitting, refuse, **QUICK)
    engine._tick(1.0)
    assert leaving.reason == "the client has gone" and len(seen) == 2


def test_the_thread_ticks_until_it_is_stopped(model, sitting):
    before, came = threading.active_count(), queue.Queue()
    with Engine(model, hop=8, most=1) as engine:
        session = engine.open(sitting, came.put, **QUICK)
        assert [came.get(timeout=60).chunk.first for _ in range(2)] == [0, 8]
    assert session.closed and session.reason == "the server stops" and threading.active_count() <= before
