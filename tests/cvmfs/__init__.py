"""A contract simulator of cvmfs_server, and the contract as tests that the real thing passes too.

The command's own modules need only Python's standard library and openssl; the messages and exit codes are those of
CernVM-FS 2.12.
"""
