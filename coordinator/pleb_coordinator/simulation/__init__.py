"""A fleet in virtual time on the real steps: what volunteers' PCs, and liars, do to a project.

Nothing of the coordinator is imitated. Hosts are values (`hosts`), a project of a thousand numbers
is published as a researcher's is (`project`), and an event queue (`fleet`) sends the hosts' work
requests to `steps.serve` and runs the background jobs, on a real store, with a clock that jumps
from one event to the next. What is made up is what PCs compute (`deltas`) and what liars make of
it (`attacks`). `figures` reads what came of it from the store.

`pleb-coordinator simulate`, the benchmark of the trust policy and tests use it.
"""
