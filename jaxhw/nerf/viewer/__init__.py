"""A scene in a browser: rendered live, with its cameras and points, while it trains or afterwards."""
