"""Sound, pictures and video in and out; this room knows no network and no face.

Its modules are imported by name: `audio` (any sound file as blocks of 16 kHz mono), `image` (any picture as one
square), `video` (frames and the original sound to a file, and back).
"""
