"""The backends that come with LightEx, each in its own module; others come as plugins."""
