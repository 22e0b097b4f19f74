"""Images: data, augmentation, ResNet and ViT, classification, self-supervised learning and its evaluation."""
