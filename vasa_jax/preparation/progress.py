"""How far a job is, on one line: videos, clips kept, drops by reason, frames a second, time left.

Time left goes by bytes, since videos differ in length more than in anything else.
"""

import sys
import time
from collections import Counter
from types import TracebackType

from tqdm import tqdm

from vasa_jax.preparation.manifest import FAILED
from vasa_jax.preparation.worker import RUNNING, Outcome

_REASONS_SHOWN = 4


class Tally:
    """Counts of what became of videos in this run."""

    def __init__(self, videos: int, done: int = 0):
        """`videos` are all of the job, `done` of them were finished before."""
        self.videos, self.done = videos, done
        self.failed = self.clips = self.frames = 0
        self.dropped: Counter[str] = Counter()
        self._under_way: dict[str, Outcome] = {}

    def add(self, outcome: Outcome) -> None:
        """Count an outcome; that of a video under way stands until the next one of the same video."""
        self._under_way.pop(outcome.video.key, None)
        if outcome.state == RUNNING:
            self._under_way[outcome.video.key] = outcome
            return
        self.done += 1
        self.failed += outcome.state == FAILED
        self.clips += outcome.clips
        self.frames += outcome.frames
        self.dropped.update(outcome.dropped)

    def line(self, seconds: float) -> str:
        """The counts in words; `seconds` is how long this run has worked."""
        now = self._under_way.values()
        clips, frames = (self.clips + sum(one.clips for one in now), self.frames + sum(one.frames for one in now))
        dropped = sum((Counter(one.dropped) for one in now), self.dropped)
        words = [f"{self.done}/{self.videos} videos"]
        if self.failed:
            words.append(f"{self.failed} failed")
        words.append(f"{clips} clips")
        if dropped:
            common = dropped.most_common()
            shown = [f"{why} {count}" for why, count in common[:_REASONS_SHOWN]]
            if rest := sum(count for _, count in common[_REASONS_SHOWN:]):
                shown.append(f"other {rest}")
            words.append(f"dropped {', '.join(shown)}")
        words.append(f"{frames / max(seconds, 1e-9):.0f} frames/s kept")
        return "; ".join(words)


class Progress:
    """The line on standard error, while a job runs."""

    def __init__(self, tally: Tally, done_bytes: int, all_bytes: int):
        """Show the line; bytes are those of the videos."""
        self.tally = tally
        self._begun = time.perf_counter()
        self._bar = tqdm(
            total=max(1, all_bytes),
            initial=done_bytes,
            bar_format="{percentage:3.0f}% of bytes [{elapsed}<{remaining}] {desc}",
            mininterval=1.0 if sys.stderr.isatty() else 30.0,
            dynamic_ncols=True,
        )
        self._show()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._bar.refresh()
        self._bar.close()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome, and show it; a failure gets a line of its own."""
        self.tally.add(outcome)
        if outcome.state == FAILED:
            tqdm.write(f"failed: {outcome.video.source}: {outcome.error}", file=sys.stderr)
        self._show()
        self._bar.update(0 if outcome.state == RUNNING else outcome.video.size)

    def _show(self) -> None:
        self._bar.set_description_str(self.tally.line(time.perf_counter() - self._begun), refresh=False)
