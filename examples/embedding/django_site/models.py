"""What the site itself stores: one row for each confirmed order."""

from __future__ import annotations

from django.db import models


class Confirmation(models.Model):
    objects = models.Manager()
    order = models.CharField(max_length=255, unique=True)
