"""The synthetic talking-head world: procedural people whose pose, gaze, mouth and voice are known exactly.

Training data without cameras (section 4 of VASA-1 trains on real video; this world stands in where none is at hand):
`identity` says who, `state` says what the face does, `render` draws it and tells the truth about it.
"""
