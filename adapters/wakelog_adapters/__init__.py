"""The world: databases, schedulers, screens. Imports the engine, and is imported by nobody."""
