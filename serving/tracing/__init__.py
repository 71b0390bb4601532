"""Spans of finished calls for an OpenTelemetry collector (0133). Off unless one is named."""
