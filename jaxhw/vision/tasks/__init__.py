"""The training problems of this wing: classification, pre-training, the linear evaluation protocol."""
