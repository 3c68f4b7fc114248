"""wakelog in Django: the site and, beside it, the worker, in which Django is set up.

export DJANGO_SETTINGS_MODULE=examples.embedding.django_site.settings
python -m django runserver
python -m django wakelog worker
"""
