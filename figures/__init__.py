"""Figures and tables from saved predictions, one a file: `python -m figures.NAME RUN_DIR`."""
