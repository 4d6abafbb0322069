"""The researcher's root keys: their files, and where their passphrases come from."""
