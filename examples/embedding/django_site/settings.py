"""As small as a Django project can be; what wakelog needs are the last four lines."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(os.environ.get("SITE_FOLDER", "."))
SECRET_KEY = "for this example only"
ROOT_URLCONF = "examples.embedding.django_site.urls"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(FOLDER / "site.sqlite3")}
}
USE_TZ = True
ALLOWED_HOSTS = ["127.0.0.1"]

INSTALLED_APPS = ["examples.embedding.django_site", "wakelog_adapters.django"]
WAKELOG_URL = f"sqlite:///{FOLDER.resolve() / 'jobs.db'}"
WAKELOG_JOBS = "examples.embedding.django_site.jobs:jobs"
