"""Packaging of r2b-zoo. The metadata is in pyproject.toml; this file is for tools that need a setup.py."""

from setuptools import setup

setup()
