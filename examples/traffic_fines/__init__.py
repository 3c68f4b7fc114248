"""Road traffic fines: a deadline of the real world, as an alarm in the engine.

A municipality sends a fine. Sixty days after the offender was notified, whoever has not paid in
full gets a penalty added. Event logs of this process exist, and they say on which day each
penalty was added. Here a Task lives the process in virtual time: it is fed everything that the
log recorded except the penalties, which the engine has to raise by itself, on the same days.

`fine` is the job, `records` reads logs, `replay` feeds them and compares, `__main__` is the
command line: python -m examples.traffic_fines [LOG] [--store URL] [--case ID]
"""
