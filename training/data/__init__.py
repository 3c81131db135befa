"""Any face data on disk or on the Hub becomes one schema: id, image, label."""
