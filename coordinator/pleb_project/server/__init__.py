"""The researcher's end of the coordinator's HTTP interface."""
