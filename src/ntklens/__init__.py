"""ntklens: see, attack and explain the adversarial robustness of a network through its tangent kernel."""
