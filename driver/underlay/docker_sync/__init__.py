"""The records follow Docker's list: names, dead endpoints, lost records."""
