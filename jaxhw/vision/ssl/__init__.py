"""Self-supervised learning: methods, their losses, and what is watched while features form."""
