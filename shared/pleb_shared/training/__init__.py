"""What a volunteer's worker does with a graph: the only part of `pleb_shared` with torch."""
