"""Exemplar-guided face super-resolution: GWAInet (Dogan, Gu, Timofte, CVPRW 2019)."""

__version__ = "0.1.0"
