"""Weights from other runs, PyTorch's files and the Hugging Face hub."""
