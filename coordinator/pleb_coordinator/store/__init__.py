"""Where rows live: one interface, one implementation for each engine, migrations."""
