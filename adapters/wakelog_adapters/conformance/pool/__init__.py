"""The exams of a store's pools."""
