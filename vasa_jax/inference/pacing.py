"""Pace: when the hops of a live stream are due, in the seconds of a clock that the caller reads.

All hops of all streams begin at the ticks of one clock, so that they can be made together:

    tick n is at start + n * hop / 25,        its frames show from one hop later on.              (1)

So a hop has as long as it lasts to be computed, and what is ready in time shows in rhythm. Where computing takes
longer, ticks that were missed are left out and everything later moves with them: nothing is made up for.
"""

from vasa_jax.arrays import FPS


class Pace:
    """The ticks of one clock.

    Attributes:
        period: seconds between them.
        late: how often they had to move.
    """

    def __init__(self, start: float, hop: int):
        """The first tick is at `start`, seconds of any clock; `hop` is in frames."""
        self.period = hop / FPS
        self.late = 0
        self._next = start

    def wait(self, now: float) -> float:
        """Seconds until the next tick, 0 where it is time."""
        return max(0.0, self._next - now)

    def tick(self, now: float) -> float:
        """Begins the tick that it is time for, and returns when its first frame shows.

        A tick that begins a period late or more moves all that follow by whole periods.
        """
        behind = int((now - self._next) // self.period)
        if behind > 0:
            self.late += 1
            self._next += behind * self.period
        self._next += self.period
        return self._next
