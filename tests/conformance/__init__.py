"""Tests; they mirror neurocommand/ one to one."""
