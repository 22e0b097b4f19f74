"""Augmentation: random changes of the training images, on the device; normalisation."""
