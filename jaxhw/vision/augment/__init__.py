"""What happens to images on the device before a network sees them."""
