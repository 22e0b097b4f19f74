"""Networks: backbones, heads, and the layers with a form for each processor."""
