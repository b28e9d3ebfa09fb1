"""The engines: one contract for all of them, and the parts of the one in memory."""
