"""Posed pictures: scenes, cameras, radiance fields, rendering, held-out quality, videos."""
