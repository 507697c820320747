# pyarrow carries no types, and its C extension has no source for a checker to read.
from typing import Any

def __getattr__(name: str) -> Any: ...
