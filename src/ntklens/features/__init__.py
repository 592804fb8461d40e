"""NTK features: the eigendecomposition of a kernel machine, pictured and measured."""
