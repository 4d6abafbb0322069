"""Readers: a project's data source becomes shuffled shards, with a holdout, in bounded memory."""
