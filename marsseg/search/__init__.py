"""The search: spaces, proposers, schedulers, the ledger, workers. Knows no network."""
