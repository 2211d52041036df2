"""Figures and tables from plain values."""
