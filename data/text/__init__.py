"""GLUE tasks, WordPiece, and tokens in batches."""
