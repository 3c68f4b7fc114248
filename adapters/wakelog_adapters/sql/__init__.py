"""What all SQL stores share: URL options, migrations, the store admin, health checks."""
