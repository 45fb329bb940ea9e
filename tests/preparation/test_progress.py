"""The line of a running job."""

from vasa_jax.preparation.progress import Tally
from vasa_jax.preparation.sources import Video
from vasa_jax.preparation.worker import RUNNING, Outcome


def test_the_line_counts_what_is_finished_and_what_is_under_way():
    tally = Tally(7, 3)
    assert tally.line(1.0) == "3/7 videos; 0 clips; 0 frames/s kept"
    long, torn = Video("long", "", 1), Video("torn", "", 1)
    tally.add(Outcome(long, RUNNING, "", 1, 50, {"small": 1}))
    tally.add(Outcome(long, RUNNING, "", 2, 100, {"small": 2, "dark": 3}))
    assert tally.line(10.0) == "3/7 videos; 2 clips; dropped dark 3, small 2; 10 frames/s kept"
    tally.add(Outcome(torn, "failed", "torn"))
    tally.add(Outcome(long, "done", "", 3, 200, {"small": 2, "dark": 3, "short": 1, "profile": 1, "blurred": 1}))
    assert tally.line(10.0) == (
        "5/7 videos; 1 failed; 3 clips; dropped dark 3, small 2, short 1, profile 1, other 1; 20 frames/s kept"
    )
