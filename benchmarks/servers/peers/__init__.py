"""One small server per peer, each for an environment of its own; it listens on BENCHMARK_PORT."""
