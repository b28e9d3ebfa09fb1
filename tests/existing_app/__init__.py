"""A web application of the usual kind, with the tests its authors wrote for it."""
