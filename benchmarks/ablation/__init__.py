"""Measures what each of the paper's ideas contributes: networks that differ in one idea, over several seeds."""
