"""wakelog in Django: add "wakelog_adapters.django" to INSTALLED_APPS.

That gives `python manage.py wakelog`, the command line of wakelog in a process in which Django is
set up. Settings: WAKELOG_URL, the store, and WAKELOG_JOBS, as in "shop.jobs:jobs". No Django is
imported before it is used.
"""

from wakelog_adapters.django.connections import closing_connections

__all__ = ["closing_connections"]
