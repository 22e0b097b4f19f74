"""Self-supervised learning, ResNet against ViT, and NeRF in JAX: one command each on CPU, GPU and TPU."""
