"""Where rows live: tables as classes, SQL by name, one connection class for each engine."""
