"""A package, so that tests import their support as `from tests.clock import ManualClock`."""
