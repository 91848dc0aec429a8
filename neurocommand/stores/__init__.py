"""Stores: configured places that hold SIFs."""
