"""Curves and tables of runs."""
