"""The promise that nobody notices a container ran: behaviours, each held against the bare runtime and the host."""
