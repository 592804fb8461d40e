"""The rules: what each operation of a network does to a covariance."""
