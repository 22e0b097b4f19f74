"""nerfacto: a hash grid and shallow networks, sampled by proposals."""
