"""One small aiohttp application per peer; each runs as ``python -m benchmarks.servers.<peer>``."""
