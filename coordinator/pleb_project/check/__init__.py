"""`pleb-project check`: export, measure, dry run; what publishing needs comes out of it."""
