"""`pleb-project demo`: a coordinator and three agents on this PC, one of which lies."""
