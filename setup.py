"""Packaging of r2b-zoo. Static metadata lives in pyproject.toml; this file exists for tools that look for it."""

from setuptools import setup

setup()
