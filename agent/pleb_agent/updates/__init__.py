"""Signed files of our own: the torch runtime and new releases.

`Source` reads a TUF repository (The Update Framework, specification 1.0) whose first root came
with the package; `Runtimes` keeps the torch runtimes of a frozen build; `Releases` looks for newer
agents and, where this installation updates itself, installs them. docs/packaging.md says how the
other end is made.
"""
