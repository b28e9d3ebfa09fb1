"""Engines: what stores jobs and decides who may run."""
