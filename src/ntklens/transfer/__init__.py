"""Surrogates against victims."""
