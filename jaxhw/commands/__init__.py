"""The commands of ``jaxhw``: each file parses its arguments and calls the room that does the work."""
