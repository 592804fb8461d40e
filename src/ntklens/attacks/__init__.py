"""Adversarial attacks on anything that maps inputs to logits."""
