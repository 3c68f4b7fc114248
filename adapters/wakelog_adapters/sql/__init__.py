"""What all SQL stores share: migrations, health checks, filters."""
