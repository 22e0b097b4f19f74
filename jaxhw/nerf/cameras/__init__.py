"""Cameras, their rays, and the frame in which a capture is trained."""
