"""Where the face is, and the way there and back: landmarks, the square that a model sees, and the paste-back.

`landmarks` asks MediaPipe's Face Landmarker; `box` holds the similarity transform from a photo to a model's crop and
its inverse; `paste` puts rendered frames back into the whole photo. This room knows no network of ours.
"""
