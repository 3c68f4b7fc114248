"""`python -m wakelog_adapters.cli` is `wakelog`, also if no script is on the path."""

from __future__ import annotations

from wakelog_adapters.cli import main

if __name__ == "__main__":
    main()
