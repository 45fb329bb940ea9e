"""Judges of videos and of models: what a generated face does, measured against what the world did.

VASA-1 section 4 measures lip sync with SyncNet and control with estimators trained by others. On the synthetic world
the truth is known, so `probe` reads mouth, lids, gaze and pose from a frame with a small network trained on true frames
only, `landmarks` asks MediaPipe's Face Landmarker as an independent second judge, and `correlation` compares curves.
Nothing here is ever a training loss.
"""
