"""Contract suites for authors of plugins: subclass one in a test module of yours and run pytest.

`EngineContract` is for engines (docs/writing-an-engine.md), `SinkContract` for sinks (docs/sinks.md).
"""

from lightex.testing.engines import EngineContract
from lightex.testing.sinks import ODD_NAMES, Backend, Held, SinkContract

__all__ = ["ODD_NAMES", "Backend", "EngineContract", "Held", "SinkContract"]
