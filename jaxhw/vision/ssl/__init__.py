"""Self-supervised learning: methods, their losses, and monitors of the features while they form."""
