"""CVMFS repositories: their set-up on a publisher, and what their servers give to clients, verified."""
