"""Storms: processes work together while random ones of them are killed every few milliseconds and
new ones join."""
