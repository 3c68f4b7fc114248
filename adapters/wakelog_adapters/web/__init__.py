"""Web: wakelog's errors as answers of an HTTP service. Imports no framework."""

from wakelog_adapters.web.statuses import problem_of, status_of

__all__ = ["problem_of", "status_of"]
