"""Kernel matrices as linear algebra: filters, factorisations, spectra. Knows no kernel."""
