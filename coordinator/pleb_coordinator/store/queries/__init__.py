"""All SQL of the store, by name, with named parameters: a module for each of the store.

It is written in the SQL that SQLite and PostgreSQL share (RETURNING instead of a last row id,
ON CONFLICT instead of INSERT OR REPLACE, flags as 0 and 1). A method of the store and its query
here are the two places of a query. What runs for every request uses an index, however many
finished rows there are: a test asks SQLite's query planner. For a partial index to be used, the
query must repeat its condition literally.
"""
