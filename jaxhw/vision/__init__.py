"""Images: data, augmentation, ResNet and ViT, classification."""
