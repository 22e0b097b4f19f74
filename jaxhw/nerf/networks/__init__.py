"""What maps positions and directions to numbers: encodings, networks, voxel grids."""
