"""Content-addressed blobs on the volunteer's disk, within the quota that the user gave."""
