"""Posed pictures, whatever format they come in."""
