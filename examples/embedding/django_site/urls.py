"""The views: they place orders and look at them, by an app that each process opens for itself."""

from __future__ import annotations

import atexit
import os
from functools import cache

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path

from examples.embedding.django_site.jobs import Placed, jobs, order
from examples.embedding.django_site.models import Confirmation
from wakelog import BlockingApp


@cache
def app_of(pid: int) -> BlockingApp:
    """A client only: `manage.py wakelog worker` does the work."""
    app = jobs.open_blocking(settings.WAKELOG_URL)
    atexit.register(app.close)
    return app


def orders(request: HttpRequest, id: str) -> JsonResponse:
    client = app_of(os.getpid()).task(order)
    if request.method == "PUT":
        sent = client.send(id, Placed.model_validate_json(request.body))
        return JsonResponse({"created": sent.created}, status=202)
    confirmed = Confirmation.objects.filter(order=id).exists()
    return JsonResponse({"state": client.get_state(id), "confirmed": confirmed})


urlpatterns = [path("orders/<str:id>", orders)]
