"""Worker pools: what their calls of the store plan, and how their items are read again.

A call of a pool looks at its document (`state`), plans what is accepted (`accept`), taken
(`takes`), settled (`settle`) or changed by an operator (`operate`), and writes it. Plans are pure:
the same document and request give the same events and rows.
"""
