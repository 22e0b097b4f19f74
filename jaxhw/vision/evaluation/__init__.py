"""Scores of predictions, features of data sets and their k-nearest-neighbour classifier."""
