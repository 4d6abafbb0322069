"""A fleet in virtual time on the real steps: what volunteers' PCs, and liars, do to a project.

Nothing of the coordinator is imitated: it has a real store and the background jobs (`coordinator`),
only its clock jumps from one event to the next. Hosts are values (`hosts`, `simulated_host`), a
project of a thousand numbers is published as a researcher's is (`project`), and an event queue
(`fleet`) sends the hosts' work requests to `steps.serve`. What is made up is what PCs compute
(`deltas`) and what liars make of it (`attacks`). `figures` reads what came of it from the store.

`pleb-coordinator simulate`, the benchmark of the trust policy and tests use it.
"""
