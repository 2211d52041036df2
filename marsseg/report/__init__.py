"""Pictures and tables from plain values."""
