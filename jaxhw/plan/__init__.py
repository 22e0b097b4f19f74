"""Planning a run for TPU slices that nobody has: compile its real programs for them, and count what they ask for."""
