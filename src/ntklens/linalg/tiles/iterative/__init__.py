"""Solutions and eigenpairs from products alone: conjugate gradients, rational Krylov spaces and block Lanczos."""
