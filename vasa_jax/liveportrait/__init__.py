"""The public face autoencoder LivePortrait (Guo et al. 2024, arXiv 2407.03168), as Flax modules in evaluation mode.

One portrait gives an appearance volume and 21 implicit keypoints; a frame is the volume, warped from the source's
keypoints to the driving ones and decoded to 512x512. The keypoint arithmetic between is in `keypoints`.
"""
