"""From a video or photos to a scene: upright pictures, and where each was taken."""
