"""The kernel follows the records: the pass, its retries, and what it repaired."""
