"""Parts of the ray engine; `broker` and what it imports are for processes that import Ray."""
