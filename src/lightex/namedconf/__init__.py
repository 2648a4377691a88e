"""Typed, named configs in plain dataclasses. A config library by itself: it knows any dataclass, none of LightEx's."""
