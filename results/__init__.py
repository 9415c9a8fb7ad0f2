"""What is published, and the tables that README.md and docs/ show of it."""
