"""From densities and colours along rays to pictures."""
