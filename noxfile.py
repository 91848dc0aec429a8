"""Checks in fresh environments: ``nox`` runs all of them, ``nox -s tests-3.12`` one.

What is no Python package (Apptainer, Lmod, the registry) comes from the machine: run ./test once before.
"""

import nox

nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("ruff>=0.6")
    session.run("ruff", "check", "--extend-exclude", ".demo,.tools", ".")
    session.run("ruff", "format", "--check", "--extend-exclude", ".demo,.tools", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    session.install("-e", ".[test]")
    session.run("mypy", "--strict", "neurocommand")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests with each Python that is installed."""
    session.install("-e", ".[test]", "-r", "examples/requirements.txt")
    session.run("pytest", *session.posargs)
