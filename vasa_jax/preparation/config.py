"""What makes a clip: every threshold of preparation with its default and its reason, and why candidates are dropped.

A candidate is the run of one face between two cuts, at most `longest` seconds of it. It becomes a clip of a record or
is dropped for the first of `REASONS` that holds.
"""

import dataclasses
from pathlib import Path

from vasa_jax.errors import UserError

SIZES = (256, 512)
REASONS: dict[str, str] = {
    "short": "the face is seen for less than the shortest clip",
    "small": "the face is smaller than the pictures need",
    "moving": "the head moves through more than the square may hold",
    "outside": "too much of the face's square lies outside of the picture",
    "several": "another face is in the square",
    "profile": "the head is turned away for too long",
    "dark": "the face is too dark",
    "blurred": "the face is out of focus, or enlarged from few pixels",
    "no sound": "there is no sound, or it is silent",
    "no speech": "too little of the sound is speech",
    "out of sync": "lips and voice do not belong together",
}
"""Why a candidate is dropped: the word that counts, and what it means. They are asked in this order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparationConfig:
    """Thresholds of preparation. Times are in seconds, shares 0 to 1."""

    size: int = 512
    """Side of the pictures: 256 or 512; they serve every stage 1 whose side divides theirs."""
    shortest: float = 2.0
    """A shorter clip has no room for a window of stage 2 (60 frames) and its context; VASA-1 takes 2 to 10 s."""
    longest: float = 10.0
    """What is longer is cut into pieces."""
    smallest_face: float = 100.0
    """Pixels from eyes to chin and ear to ear, whichever is more: half of what the face has in a crop of 256."""
    margin: float = 1.0
    """Factor on the side of the square that frames the face as the model wants it; more leaves more room around."""
    most_room: float = 1.6
    """Factor by which the square may be larger than a still head needs, so that a moving one stays inside."""
    most_outside: float = 0.4
    """Share of the square beyond the picture's edge, which is repeated there: close-ups of a head have 0.3 to 0.4, and
    more would teach streaks."""
    most_yaw: float = 55.0
    """Degrees; beyond, an eye is hidden and landmarks are guesses."""
    most_pitch: float = 40.0
    """Degrees; as `most_yaw`."""
    most_profile: float = 0.1
    """Share of the frames in which the head may be turned further."""
    least_sharpness: float = 15.0
    """Variance of the Laplacian of the face at 128 pixels, levels of 0 to 255: stage 1 learns what it is shown."""
    least_light: float = 35.0
    """Mean level of the face, 0 to 255."""
    need_sound: bool = True
    """Whether clips without a voice are dropped; stage 1 alone can do without."""
    least_loudness: float = -50.0
    """Decibels of full scale, root mean square of the clip; rooms are about -60, voices -30 to -15."""
    least_speech: float = 0.5
    """Share of the clip in which the voice activity detector hears speech; pauses are part of talking."""
    voice: float = 0.5
    """Probability from which on the detector's answer counts as speech, its authors' choice."""
    gap: float = 0.1
    """Frames further apart in time end a clip: a picture that stands still is no motion."""
    most_missing: int = 3
    """Frames in a row without the face that are bridged by a straight line; more end the track."""
    reach: float = 0.35
    """How far a face moves between two frames at most, in its own sizes; another face that near ends the track."""
    least_likeness: float = 0.7
    """Correlation of eyes and nose with themselves one frame before: 0.9 and more where nothing happened, 0.5 at most
    between two people. Less is a cut, or another person in the same place."""
    search_side: int = 1280
    """Pixels of the longer side of the pictures in which faces are looked for."""
    search_every: float = 1.0
    """Seconds between searches by parts for small faces, while there is no face."""
    cut_ratio: float = 3.0
    """How much more than its neighbours a frame must differ to be a cut (PySceneDetect's adaptive detector)."""
    cut_least: float = 15.0
    """How much a frame must differ in any case, levels of 0 to 255."""
    smooth: float = 5.0
    """Hz; cut-off of the zero-phase filter on poses: heads nod at 1 to 3 Hz, the detector's noise is above."""
    deinterlace: bool = True
    """Whether interlaced video is made progressive."""
    emotion: str = ""
    """HSEmotion's ONNX model with eight classes; without it emotion comes from blend shapes."""
    syncnet: str = ""
    """Folder of SyncNet's converted weights; with them clips are judged by lips and voice."""
    least_sync: float = 2.0
    """SyncNet's confidence; talking heads have 3 and more, dubbed or off-screen voices about 1."""
    shift_sound: bool = False
    """Whether sound is shifted by the offset that SyncNet finds."""
    most_shift: int = 5
    """Frames; with a larger offset a clip is dropped."""

    def __post_init__(self):
        """Refuse nonsense."""
        if self.size not in SIZES:
            raise UserError(f"size={self.size} must be one of {', '.join(map(str, SIZES))}")
        if not 0.2 <= self.shortest <= self.longest <= 60:
            raise UserError(f"shortest={self.shortest} and longest={self.longest} must be 0.2 to 60 s, in this order")
        for name in ("most_outside", "most_profile", "least_speech", "voice"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)} is a share, 0 to 1")
        for name in ("margin", "reach", "gap", "search_every", "cut_ratio", "smooth"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)} must be more than 0")
        if self.smooth >= 12.5:
            raise UserError(f"smooth={self.smooth} Hz must be less than 12.5, half of 25 frames a second")
        if self.search_side < 256:
            raise UserError(f"search_side={self.search_side} is too small to find faces in; at least 256 pixels")
        for name in ("emotion", "syncnet"):
            if (path := getattr(self, name)) and not Path(path).exists():
                raise UserError(f"{name}={path}: there is no such file or folder")
        if self.shift_sound and not self.syncnet:
            raise UserError("shift_sound needs SyncNet's weights; give syncnet")
