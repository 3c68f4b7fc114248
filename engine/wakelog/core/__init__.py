"""The pure core: values and functions; no clock, no I/O, no user code.

Read it in this order: `events` (what can have happened: the log's format), `instance` (what a
job is, folded from them), `evolve` (how one event changes it), `commands` (what may be asked)
and `decide` (what an ask leads to).
"""
