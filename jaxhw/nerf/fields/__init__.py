"""Radiance fields: the contract, the registry, and one module or package for each."""
