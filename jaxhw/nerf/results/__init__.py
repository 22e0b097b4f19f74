"""What is made of a trained scene: scores, pictures, videos, camera paths."""
