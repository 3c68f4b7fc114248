"""The pure core: values and functions; no clock, no I/O, no user code.

Reading order: `events` (what can happen: the log's format), `instance` (the state of a job, folded
from its events), `evolve` (how one event changes it), `requests` (what can be asked of it) and
`decide` (which events and which handler call follow from a request).
"""
