"""The formats of scenes on disk: a module for each, with `matches` and `read`."""
