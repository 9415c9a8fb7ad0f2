"""One page and one JSON of all rules for a fixed cascade: python -m deferral.report."""
