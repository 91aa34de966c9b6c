"""Case files: their grammar, and the problem that a case describes."""
