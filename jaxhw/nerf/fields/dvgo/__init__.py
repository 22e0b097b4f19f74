"""Direct voxel grid optimisation."""
