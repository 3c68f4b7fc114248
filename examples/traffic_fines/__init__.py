"""Road traffic fines: a real deadline, as an alarm in the engine.

A municipality sends a fine. Sixty days after the offender was notified, a penalty is added to
a fine that is not paid in full. Event logs of this process exist, and they record on which day each
penalty was added. Here a Task runs the process in virtual time: it receives everything that the
log recorded except the penalties, which the engine has to raise by itself, on the same days.

`fine` is the job, `records` reads logs, `replay` sends them and compares, `__main__` is the
command line: python -m examples.traffic_fines [LOG] [--store URL] [--case ID]
"""
