"""Networks: backbones, heads, norms, and the layers with a form for each processor."""
