"""Brings the fixture `replay`."""

pytest_plugins = ["ecc_snn.testing.plugin"]
