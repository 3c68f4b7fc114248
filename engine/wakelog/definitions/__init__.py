"""What users write, and what their handlers get: definitions, contexts, types and steps."""
