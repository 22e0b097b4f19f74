"""A run on images in a browser: its curves, confusions, worst pictures and their nearest neighbours."""
